"""Events have the server's own types, a newer server's additions do no harm, and slow readers block nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sceneshift import events
from sceneshift.address import Address
from sceneshift.buffer import EventBuffer
from sceneshift.decoding import KINDS, decode
from sceneshift.protocol.messages import Error, FrameStamp, PromptApplied, PromptReady, ServerMessage, StatsUpdated

STATS = StatsUpdated(
    frames_sent=0, frames_due=0, continuous_play_ratio=1.0, max_gap_ms=0.0, sent_frame_rate=0.0, bitrate=0.0,
    viewers=0, engine="ready",
)  # fmt: skip


def decoded(**fields: Any) -> ServerMessage | None:
    return decode(json.dumps(fields))


def test_every_event_of_the_protocol_can_be_imported_by_its_name() -> None:
    for kind in KINDS.values():
        assert getattr(events, kind.__name__) is kind
    assert events.FrameStamp is FrameStamp
    with pytest.raises(AttributeError):
        events.SessionStart  # noqa: B018 - a client's message is no event


def test_unknown_events_and_fields_are_ignored() -> None:
    assert decoded(type="moon.risen", seq=1) is None
    assert decoded(type="prompt.ready", prompt_id="p", brightness=3) == PromptReady(prompt_id="p")
    assert decode("[1]") is None
    assert decode("no json") is None


def test_an_error_with_a_code_of_a_newer_server_is_heard() -> None:
    error = {"type": "weather", "code": "too_cloudy", "message": "wait", "event_id": "e1", "retryable": True}
    heard = decoded(type="error", seq=3, error=error)
    assert isinstance(heard, Error)
    assert (heard.error.code, heard.error.event_id, heard.error.retryable, heard.seq) == ("too_cloudy", "e1", True, 3)


def test_an_event_of_a_newer_shape_keeps_its_known_fields() -> None:
    frame = {"frame_index": 5, "rtp_timestamp": None, "sent_at_ms": 1.5}
    heard = decoded(type="prompt.applied", prompt_id="p", frame=frame, timings="none today")
    assert isinstance(heard, PromptApplied)
    assert heard.frame == FrameStamp(frame_index=5, rtp_timestamp=None, sent_at_ms=1.5)


async def test_a_full_buffer_drops_the_oldest_preview_or_statistic_first() -> None:
    buffer = EventBuffer(length=3)
    first = PromptReady(prompt_id="p1")
    for event in (first, STATS, PromptReady(prompt_id="p2"), PromptReady(prompt_id="p3")):
        buffer.put(event)
    assert buffer.num_dropped == 1
    assert await anext(buffer) is first
    for number in (4, 5):
        buffer.put(PromptReady(prompt_id=f"p{number}"))
    buffer.end(None)
    assert [event.prompt_id async for event in buffer] == ["p3", "p4", "p5"]
    assert buffer.num_dropped == 2


@pytest.mark.parametrize(
    "url, base, realtime_url",
    [
        (None, "http://127.0.0.1:8080", "ws://127.0.0.1:8080/v1/realtime"),
        ("https://stage.example/", "https://stage.example", "wss://stage.example/v1/realtime"),
        ("wss://stage.example/a/v1/realtime", "https://stage.example/a", "wss://stage.example/a/v1/realtime"),
    ],
)
def test_an_address_may_have_any_form_that_a_person_has_at_hand(url: str | None, base: str, realtime_url: str) -> None:
    address = Address.of(url, None, {})
    assert (address.base, address.realtime_url) == (base, realtime_url)


def test_the_token_comes_from_the_argument_the_address_or_the_environment() -> None:
    environment = {"SCENESHIFT_TOKEN": "env", "SCENESHIFT_URL": "http://stage:1/#token=address"}
    assert Address.of(None, "given", environment).token == "given"
    assert Address.of(None, None, environment).token == "address"
    assert Address.of("http://stage:1", None, environment).token == "env"
    assert "given" not in repr(Address.of(None, "given", {}))
    assert Address.of(None, "a/b", {}).obs_url("my-show") == "http://127.0.0.1:8080/obs/my-show#token=a%2Fb"


@pytest.mark.parametrize("url", ["stage.example", "ftp://stage.example", "http://"])
def test_an_invalid_address_raises_an_error(url: str) -> None:
    with pytest.raises(ValueError, match="expected an address"):
        Address.of(url, None, {})
