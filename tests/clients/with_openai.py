"""What OpenAI's Python package does with `/v1/videos`, unchanged. `test_clients.py` runs it.

    with_openai.py URL KEY PICTURE

It imports nothing of ours. A wrong answer raises.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from pathlib import Path
from typing import Any

import openai

warnings.simplefilter("ignore", DeprecationWarning)
URL, KEY, PICTURE = sys.argv[1] + "/v1", sys.argv[2], Path(sys.argv[3])
MAGIC = {"video": (4, b"ftyp"), "thumbnail": (8, b"WEBP"), "spritesheet": (0, b"\xff\xd8\xff")}


def refused(kind: type[openai.APIStatusError], code: str, param: str | None, call: Any) -> None:
    try:
        got = call()
    except kind as error:
        assert (error.code, error.param) == (code, param), (error.code, error.param, code, param)
        assert error.type in ("invalid_request", "session", "server") and error.message, error.body
    else:
        raise AssertionError(f"{got!r}, and not {kind.__name__} with {code}")


def check_calls(client: openai.OpenAI) -> str:
    video = client.videos.create_and_poll(prompt="scene 5", model="sora-2", seconds="4", size="1280x720")
    assert (video.status, video.progress, video.seconds, video.size) == ("completed", 100, "4", "1280x720"), video
    assert video.error is None and video.completed_at and video.expires_at and video.prompt == "scene 5", video
    for variant, (start, magic) in MAGIC.items():
        content = client.videos.download_content(video.id, variant=variant).read()  # type: ignore[arg-type]
        assert content[start : start + len(magic)] == magic, variant
    with PICTURE.open("rb") as picture:
        begun = client.videos.create_and_poll(prompt="scene 6", seconds="4", input_reference=picture)
    assert begun.status == "completed", begun
    remix = client.videos.poll(client.videos.remix(video.id, prompt="scene 7").id)
    assert (remix.status, remix.remixed_from_video_id, remix.size) == ("completed", video.id, video.size), remix
    longer = client.post(
        "/videos/extensions", body={"prompt": "scene 8", "seconds": 4, "video": {"id": video.id}}, cast_to=type(video)
    )
    longer = client.videos.poll(longer.id)
    assert (longer.status, longer.seconds) == ("completed", "8"), longer
    return video.id


def check_pages(client: openai.OpenAI, video_id: str) -> None:
    first = client.videos.list(limit=2)
    assert len(first.data) == 2 and first.has_more
    ids = [video.id for video in client.videos.list(limit=2, order="asc")]  # asks for each next page by itself
    assert len(ids) == len(set(ids)) == 4 and ids[0] == video_id, ids
    assert [video.id for video in client.videos.list(limit=2)] == ids[::-1]


def check_refusals(client: openai.OpenAI, video_id: str) -> None:
    create, other = client.videos.create, openai.OpenAI(base_url=URL, api_key="wrong", max_retries=0)
    bad, absent = openai.BadRequestError, openai.NotFoundError
    refused(bad, "prompt_empty", "prompt", lambda: create(prompt=" "))
    refused(bad, "prompt_too_long", "prompt", lambda: create(prompt="x" * 50_000))
    refused(bad, "invalid_value", "seconds", lambda: create(prompt="a", seconds="99"))  # type: ignore[arg-type]
    refused(bad, "invalid_value", "size", lambda: create(prompt="a", size="9x9"))  # type: ignore[arg-type]
    refused(bad, "invalid_value", "input_reference", lambda: create(prompt="a", input_reference=b"no picture"))
    refused(bad, "unsupported_parameter", "n", lambda: create(prompt="a", extra_body={"n": 2}))
    refused(absent, "unknown_model", "model", lambda: create(prompt="a", model="other"))
    refused(absent, "unknown_video", None, lambda: client.videos.retrieve("video_none"))
    refused(absent, "unknown_video", None, lambda: client.videos.delete("video_none"))
    refused(absent, "not_offered", None, lambda: client.videos.edit(prompt="a", video=b"a film"))
    refused(absent, "not_offered", None, lambda: client.videos.get_character("character_none"))
    refused(openai.AuthenticationError, "unauthorized", None, lambda: other.videos.retrieve(video_id))


async def check_async_calls(client: openai.AsyncOpenAI, video_id: str) -> None:
    video = await client.videos.create_and_poll(prompt="scene 9", seconds="4")
    content = await (await client.videos.download_content(video.id)).aread()
    assert content[4:8] == b"ftyp"
    assert (await client.videos.list(limit=1)).data[0].id == video.id
    for one in (video.id, video_id):
        gone = await client.videos.delete(one)
        assert (gone.id, gone.object, gone.deleted) == (one, "video.deleted", True), gone
    await client.close()


def main() -> None:
    client = openai.OpenAI(base_url=URL, api_key=KEY)
    video_id = check_calls(client)
    check_pages(client, video_id)
    check_refusals(client, video_id)
    asyncio.run(check_async_calls(openai.AsyncOpenAI(base_url=URL, api_key=KEY), video_id))
    print("ok")


if __name__ == "__main__":
    main()
