"""Clients of `/v1/videos` that others wrote run unchanged, each in an environment of its own, on a real server.

The server has the synthetic engine. A test is skipped, with the reason, where its client cannot be installed.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "server"))

from serving import Serving, serving

from engine.synthetic import Script, SyntheticEngine
from tests.clients import environments
from tests.clients.environments import PATIENCE_S, run

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "clips.md"
TOKEN = "a-token-for-these-clients-that-has-more-than-forty-eight-letters"
# The newest of 29 November 2026. Nothing of ours depends on them.
OPENAI, OPENAI_NODE, LITELLM, AIPERF = "openai==3.57.0", "openai@7.59.0", "litellm==1.110.2", "aiperf==0.13.0"


async def _environment(make: Callable[..., Path], *packages: str) -> Path:
    try:
        return await asyncio.to_thread(make, *packages)
    except environments.Unusable as unusable:
        pytest.skip(f"{packages[0]} cannot be installed: {unusable}")


class Shop:
    def __init__(self, server: Serving, tmp_path: Path) -> None:
        self.server, self.folder = server, tmp_path
        self.url = str(server.http._base_url).rstrip("/")
        self.picture = tmp_path / "picture.png"
        Image.new("RGB", (320, 200), "red").save(self.picture)

    async def videos(self) -> list[dict[str, Any]]:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self.server.http.get("/v1/videos?limit=100", headers=headers) as answer:
            videos: list[dict[str, Any]] = (await answer.json())["data"]
            return videos


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    engine = SyntheticEngine(Script(step_s=0.001, decode_s=0.001, can_start_from_frame=True))
    async with serving(engine, token=TOKEN, clips_folder=str(tmp_path / "clips")) as server:
        async with asyncio.timeout(30):
            while not server.registry.is_ready:  # noqa: ASYNC110  the engine's state, on the same loop
                await asyncio.sleep(0.01)
        yield Shop(server, tmp_path)


async def test_openai_for_python(shop: Shop) -> None:
    programs = await _environment(environments.python, OPENAI)
    program = HERE / "with_openai.py"
    assert "ok" in await run(programs / "python", program, shop.url, TOKEN, shop.picture, cwd=shop.folder)


async def test_openai_for_node(shop: Shop) -> None:
    if (node := shutil.which("node")) is None:
        pytest.skip("node is not installed")
    program = (await _environment(environments.node, OPENAI_NODE)) / "with_openai.mjs"
    shutil.copy(HERE / program.name, program)  # node looks for packages beside the program
    assert "ok" in await run(node, program, shop.url, TOKEN, shop.picture, cwd=shop.folder)


@pytest.mark.parametrize("language", ["python", "mjs"])
async def test_the_documents_example_for_openais_client(shop: Shop, language: str) -> None:
    """docs/clips.md, as it stands, but for the address."""
    found = re.search(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    text = found[1].replace("http://127.0.0.1:8080", shop.url)
    if language == "python":
        command = [(await _environment(environments.python, OPENAI)) / "python"]
        program = shop.folder / "example.py"
    else:
        if (node := shutil.which("node")) is None:
            pytest.skip("node is not installed")
        command = [Path(node)]
        program = (await _environment(environments.node, OPENAI_NODE)) / "example.mjs"
    program.write_text(text, encoding="utf-8")
    await run(*command, program, cwd=shop.folder, SCENESHIFT_TOKEN=TOKEN)
    assert (shop.folder / "clip.mp4").read_bytes()[4:8] == b"ftyp"


async def test_litellm(shop: Shop) -> None:
    programs = await _environment(environments.python, LITELLM)
    assert "ok" in await run(programs / "python", HERE / "with_litellm.py", shop.url, TOKEN, cwd=shop.folder)


async def test_a_lost_answer_makes_openais_client_ask_again_and_no_second_clip(shop: Shop) -> None:
    programs = await _environment(environments.python, OPENAI)
    program = (
        "import sys, openai\n"
        "client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2], max_retries=2)\n"
        "print(client.videos.create(prompt='scene 3').id)\n"
    )
    async with _losing_the_first_answer(shop.url) as url:
        out = await run(programs / "python", "-W", "ignore", "-c", program, f"{url}/v1", TOKEN, cwd=shop.folder)
    assert [video["id"] for video in await shop.videos()] == [out.strip()]


@asynccontextmanager
async def _losing_the_first_answer(url: str) -> AsyncIterator[str]:
    """A relay that passes a connection's bytes on. It closes the first one as soon as the server answers."""
    host, port = url.removeprefix("http://").split(":")
    connections = 0

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        is_first = connections == 1
        there_reader, there_writer = await asyncio.open_connection(host, int(port))

        async def back() -> None:
            while data := await there_reader.read(65_536):
                if is_first:
                    break
                writer.write(data)
            writer.close()

        returning = asyncio.create_task(back())
        while data := await reader.read(65_536):
            there_writer.write(data)
        await returning
        there_writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        assert connections > 1, "the client asked once"


async def test_nvidias_aiperf(shop: Shop) -> None:
    programs = await _environment(environments.python, AIPERF)
    out, prompts = shop.folder / "aiperf", shop.folder / "prompts.jsonl"
    prompts.write_text("".join(f'{{"text": "scene {number}"}}\n' for number in range(4)))
    await run(
        *(programs / "aiperf", "profile", "--endpoint-type", "video_generation", "--url", shop.url),
        *("--model", "synthetic", "--api-key", TOKEN, "--request-count", "4", "--concurrency", "2"),
        *("--extra-inputs", "size:640x360", "--extra-inputs", "seconds:2"),
        *("--input-file", prompts, "--custom-dataset-type", "single_turn", "--tokenizer", _tokenizer(shop.folder)),
        *("--download-video-content", "--artifact-dir", out, "--ui", "none"),
        cwd=shop.folder,
    )
    (report,) = out.rglob("profile_export_aiperf.json")
    told = json.loads(report.read_text())
    assert (told["request_count"]["avg"], told["request_error_rate"]["avg"]) == (4, 0)
    assert [(video["status"], video["size"]) for video in await shop.videos()] == [("completed", "640x360")] * 4


def _tokenizer(folder: Path) -> Path:
    """aiperf counts tokens. It would fetch a tokenizer, so this one knows one word."""
    (folder / "tokenizer").mkdir()
    model = {"type": "WordLevel", "vocab": {"<unk>": 0, "scene": 1}, "unk_token": "<unk>"}
    (folder / "tokenizer" / "tokenizer.json").write_text(
        json.dumps({"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}, "model": model})
    )
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder / "tokenizer"


@pytest.mark.parametrize("body", ["json", "form"])
async def test_curl(shop: Shop, body: str) -> None:
    if (curl := shutil.which("curl")) is None:
        pytest.skip("curl is not installed")
    common = (curl, "--silent", "--show-error", "--fail-with-body", "--header", f"Authorization: Bearer {TOKEN}")
    wish = {"prompt": "scene 4", "seconds": "2"}
    form = [part for name, text in wish.items() for part in ("--form-string", f"{name}={text}")]
    given = ("--json", json.dumps(wish)) if body == "json" else form
    video = json.loads(await run(*common, f"{shop.url}/v1/videos", *given, cwd=shop.folder))
    assert (video["status"], video["seconds"]) == ("queued", "2")
    async with asyncio.timeout(PATIENCE_S):
        while video["status"] != "completed":
            video = json.loads(await run(*common, f"{shop.url}/v1/videos/{video['id']}", cwd=shop.folder))
    await run(*common, "--output", "clip.mp4", f"{shop.url}/v1/videos/{video['id']}/content", cwd=shop.folder)
    assert (shop.folder / "clip.mp4").read_bytes()[4:8] == b"ftyp"
