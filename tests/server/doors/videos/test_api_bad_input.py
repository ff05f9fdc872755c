"""Bad input for `/v1/videos`: each row of the table in docs/clips.md is sent, and nothing is written for it."""

from __future__ import annotations

import base64
import io
import re
import struct
import zlib
from collections.abc import AsyncIterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from PIL import Image
from serving import Serving, serving

from engine.synthetic import Script, SyntheticEngine
from server.store import keys
from server.store.store import Store

TOKEN = "a-token-for-these-tests-that-has-more-than-forty-eight-letters"
DOCUMENT = (Path(__file__).parents[4] / "docs" / "clips.md").read_text(encoding="utf-8")
VIDEOS = "/v1/videos"
UNKNOWN = f"{VIDEOS}/video_00000000000000000000000000000000"


def table() -> dict[str, tuple[int, str, str | None]]:
    """By what comes: status, code and field."""
    text = DOCUMENT.partition("## Bad input")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| (\d+) \| `(\w+)` \| (?:`([\w-]+)` )?\|$", text, re.MULTILINE)
    return {what: (int(status), code, param or None) for what, status, code, param in rows}


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (320, 200), "red").save(out, "JPEG")
    return out.getvalue()


@cache
def bomb() -> bytes:
    """A PNG of 20000x20000 pixels, all of them zero."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compressobj(9)
    packed = b"".join(rows.compress(b"\0" * 20_001) for _ in range(20_000)) + rows.flush()
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def picture(content: bytes) -> dict[str, Any]:
    form = aiohttp.FormData({"prompt": "a"})
    form.add_field("input_reference", content, filename="a.png", content_type="image/png")
    return {"data": form}


def order(**fields: Any) -> dict[str, Any]:
    return {"json": {"prompt": "a"} | fields}


def body(content: bytes, kind: str = "application/json") -> dict[str, Any]:
    return {"data": content, "headers": {"Content-Type": kind}}


def cases(theirs: str) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """By what comes: method, path and the rest of a request. `theirs`: a finished clip of another customer."""
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    long_form = aiohttp.FormData(
        {"prompt": "a"} | {f"field{number}": "" for number in range(99)}, default_to_multipart=True
    )
    long_prompt = aiohttp.FormData({"prompt": "x" * 100_000}, default_to_multipart=True)
    address = "https://pictures.example/a.png"
    orders: dict[str, dict[str, Any]] = {
        "a prompt of 100 kB": order(prompt="x" * 100_000),
        "a prompt of 100 kB in a form": {"data": long_prompt},
        "white space as prompt": order(prompt=" \n"),
        "no prompt": {"json": {"seconds": 4}},
        "half a surrogate pair in the prompt": body(b'{"prompt": "\\ud83d"}'),
        "a clip of 0 seconds": order(seconds=0),
        "a clip of 99 seconds": order(seconds=99),
        "a length that is no number": order(seconds="long"),
        "an odd size": order(size="1281x720"),
        "a size of 8000x8000": order(size="8000x8000"),
        "a width without a height": order(width=640),
        "another model": order(model="other"),
        "a field of another server": order(negative_prompt="a"),
        "a field that does not exist": order(colour="red"),
        "JSON that is none": body(b"{"),
        "JSON of 300 kB": body(b'{"prompt": "a"' + b" " * 300_000 + b"}"),
        "a text as body": body(b"a sailboat", "text/plain"),
        "a form that breaks off": body(b"--x\r\nContent-Dispo", "multipart/form-data; boundary=x"),
        "a form of 100 fields": {"data": long_form},
        "a picture that is none": picture(b"a picture"),
        "a picture that breaks off": picture(jpeg()[:300]),
        "a picture bomb: 400 megapixels in 400 kB": picture(bomb()),
        "an SVG as picture": order(input_reference=f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"),
        "a picture of 13 MB": picture(b"\xff\xd8\xff" + b"\0" * 13_000_000),
        "an address of a picture": order(input_reference=address),
        "a key of idempotency of 300 characters": order() | {"headers": {"Idempotency-Key": "x" * 300}},
        "no token": order() | {"headers": {"Authorization": ""}},
    }
    extend = partial(order, prompt="b", seconds=4)
    return {what: ("POST", VIDEOS, more) for what, more in orders.items()} | {
        "an unknown clip": ("GET", UNKNOWN, {}),
        "an unknown clip to go on from": ("POST", f"{VIDEOS}/extensions", extend(video={"id": "video_none"})),
        "another customer's clip": ("GET", f"{VIDEOS}/{theirs}", {}),
        "another customer's clip to go on from": ("POST", f"{VIDEOS}/extensions", extend(video={"id": theirs})),
        "another customer's clip to remix": ("POST", f"{VIDEOS}/{theirs}/remix", {"json": {"prompt": "b"}}),
        "an unknown clip as a page's begin": ("GET", f"{VIDEOS}?after=video_none", {}),
        "a page of 0 clips": ("GET", f"{VIDEOS}?limit=0", {}),
    }


class Door:
    def __init__(self, server: Serving, folder: Path, theirs: str) -> None:
        self.http, self.folder, self.theirs = server.http, folder, theirs

    async def ask(self, method: str, path: str, *, key: str = TOKEN, **more: Any) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {key}"} | more.pop("headers", {})
        async with self.http.request(method, path, headers=headers, **more) as answer:
            return answer.status, await answer.json()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """One server for all rows, because none may change anything."""
    store = Store()
    store.open()
    other = store.ask_now(partial(keys.make_key, name="other", scopes=("view", "prompt"), now=0)).text
    engine = SyntheticEngine(Script(step_s=0.001, decode_s=0.001, can_start_from_frame=True))
    folder = tmp_path_factory.mktemp("server") / "clips"
    async with serving(engine, token=TOKEN, build={"store": store}, clips_folder=str(folder)) as server:
        door = Door(server, folder, "")
        status = 503
        while status == 503:
            status, video = await door.ask("POST", VIDEOS, key=other, json={"prompt": "scene 1", "seconds": 1})
        while video["status"] != "completed":
            _, video = await door.ask("GET", f"{VIDEOS}/{video['id']}", key=other)
        door.theirs = video["id"]
        yield door


def test_the_document_and_the_test_have_the_same_rows() -> None:
    assert list(table()) and set(table()) == set(cases(""))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("what", table())
async def test_bad_input_is_named_and_nothing_is_written(door: Door, what: str) -> None:
    before = sorted(door.folder.rglob("*"))
    method, path, more = cases(door.theirs)[what]
    status, answer = await door.ask(method, path, **more)
    error = answer["error"]
    assert (status, error["code"], error["param"]) == table()[what], error
    _, videos = await door.ask("GET", VIDEOS)
    assert videos["data"] == [] and sorted(door.folder.rglob("*")) == before
