"""What litellm does with `/v1/videos`, unchanged: with_litellm.py URL KEY. `test_clients.py` runs it.

It imports nothing of ours. A wrong answer raises.
"""

from __future__ import annotations

import sys
import time

import litellm

WHERE = {"api_base": sys.argv[1] + "/v1", "api_key": sys.argv[2], "custom_llm_provider": "openai"}


def ended(video):  # type: ignore[no-untyped-def]
    until = time.monotonic() + 120
    while video.status in ("queued", "in_progress") and time.monotonic() < until:
        time.sleep(0.2)
        video = litellm.video_status(video_id=video.id, **WHERE)
    assert video.status == "completed", video
    return video


def main() -> None:
    video = ended(
        litellm.video_generation(prompt="scene 5", model="openai/sora-2", seconds="4", size="720x1280", **WHERE)
    )
    assert (video.seconds, video.size) == ("4", "720x1280"), video
    content = litellm.video_content(video_id=video.id, **WHERE)
    assert content[4:8] == b"ftyp"
    remix = ended(litellm.video_remix(video_id=video.id, prompt="scene 6", **WHERE))
    assert remix.remixed_from_video_id, remix
    listed = litellm.video_list(limit=1, **WHERE)
    assert len(listed.data if hasattr(listed, "data") else listed["data"]) == 1, listed
    try:
        litellm.video_generation(prompt=" ", model="openai/sora-2", **WHERE)
    except litellm.BadRequestError as error:
        assert "prompt" in str(error), error
    else:
        raise AssertionError("an empty prompt was accepted")
    print("ok")


if __name__ == "__main__":
    main()
