"""Push to an ingest: a real WHIP server written for these tests, real pictures and sound, and failures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from ingest import Ingest
from sounds import tone, write_wav

from server.clock import FakeClock, MonotonicClock
from server.config import WhipTarget
from server.media.sound.music import Library
from server.media.webrtc import whip
from server.media.webrtc.whip import NEXT_PUSH_STATE, Push, PushInterrupted, PushRefused, PushState, WhipClient

Open = Callable[..., Awaitable[Any]]
TOKEN = "very-secret-token"


class Pusher:
    """A push, and its reports."""

    def __init__(self, hand: Any, target: WhipTarget, clock: Any = None) -> None:
        self.reports: list[tuple[str, str | None]] = []
        self._hand = hand
        self.push = Push(
            target,
            hand.program,
            clock=clock or MonotonicClock(),
            on_changed=lambda push: hand._note(self.reports)((push.state.value, push.detail)),
            jitter=lambda: 1.0,
        )
        self.push.start()

    async def until(self, state: str, num_reports: int = 1) -> str | None:
        """Wait until it has reported this state so often; returns the last one's detail."""

        def details() -> list[str | None]:
            return [detail for reported, detail in self.reports if reported == state]

        await self._hand.until(lambda: len(details()) >= num_reports)
        return details()[-1]


@pytest.fixture
async def ingest() -> AsyncIterator[Ingest]:
    async with Ingest(TOKEN) as ingest:
        yield ingest


@pytest.fixture
async def start_push() -> AsyncIterator[Callable[..., Pusher]]:
    pushers: list[Pusher] = []

    def start(hand: Any, url: str, token: str | None = TOKEN, **options: Any) -> Pusher:
        pushers.append(Pusher(hand, WhipTarget("show", url, token), **options))
        return pushers[-1]

    yield start
    for pusher in pushers:
        await pusher.push.close()


async def test_an_ingest_gets_every_picture_and_the_music_and_is_told_of_the_end(
    open_program: Open, ingest: Ingest, start_push: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "server")
    write_wav(tmp_path / "low.wav", tone(300, 5.0))
    library = Library(tmp_path)
    hand = await open_program(music=library)
    hand.program.play("low", 1.0)
    pusher = start_push(hand, ingest.url)
    await pusher.until("live")
    indices = [await ingest.marked() for _ in range(24)]
    assert indices == hand.sent_from(indices[0], 24)
    while np.abs((await ingest.frame("audio")).to_ndarray()).max() < 3000:
        pass
    requests = hand.program.statistics().keyframe_requests
    await ingest.ask_for_keyframe()
    while hand.program.statistics().keyframe_requests == requests:
        await ingest.marked()
    pusher.push.stop()
    assert pusher.push.state is PushState.STOPPED
    await pusher.push.close()
    assert ingest.deleted.is_set()
    assert ingest.requests == [("POST", "/whip/secret-key"), ("DELETE", "/session/1")]
    assert hand.program.num_viewers == 0
    assert TOKEN not in caplog.text and "secret-key" not in caplog.text
    library.close()


async def test_a_push_reconnects_when_a_dead_ingest_is_back(open_program: Open, start_push: Any) -> None:
    hand = await open_program()
    ingest = Ingest()
    async with ingest:
        pusher = start_push(hand, ingest.url)
        await pusher.until("live")
        await ingest.marked()
    assert "connection was lost" in str(await pusher.until("connecting"))
    assert "connection refused" in str(await pusher.until("connecting", 2))
    async with ingest:
        await pusher.until("live", 2)
        before = await ingest.marked()
        assert await ingest.marked() > before
        await pusher.push.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("push")]


@pytest.mark.parametrize(
    ("status", "detail"),
    [(403, "token"), (404, "address"), (406, "offer"), (302, "redirects")],
)
async def test_an_ingest_that_refuses_is_not_asked_again(
    open_program: Open, ingest: Ingest, start_push: Any, status: int, detail: str
) -> None:
    hand = await open_program()
    ingest.refusals.append(web.Response(status=status, headers={"Location": "/whip/other"}))
    pusher = start_push(hand, ingest.url)
    told = str(await pusher.until("failed"))
    assert detail in told and str(status) in told
    assert len(ingest.requests) == 1
    assert hand.program.num_viewers == 0


async def test_a_wrong_token_fails_with_a_detail_that_does_not_repeat_it(
    open_program: Open, ingest: Ingest, start_push: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "server")
    hand = await open_program()
    pusher = start_push(hand, ingest.url, "not-this-token")
    told = await pusher.until("failed")
    assert told == "the ingest does not accept the token (HTTP 401)"
    assert "not-this-token" not in caplog.text
    pusher.push.start()  # the operator has corrected it, and a user tries again
    assert pusher.push.state is PushState.CONNECTING
    await pusher.until("failed", 2)


async def test_an_ingest_that_takes_no_sound_gets_the_pictures(
    open_program: Open, ingest: Ingest, start_push: Any
) -> None:
    ingest.takes_audio = False
    hand = await open_program()
    pusher = start_push(hand, ingest.url)
    await pusher.until("live")
    await ingest.marked()
    assert [method for method, _ in ingest.requests] == ["POST", "DELETE", "POST"]


@pytest.mark.parametrize(
    ("body", "content_type", "detail"),
    [
        ("v=0 not an answer", "application/sdp", "cannot be used"),
        ("x" * (whip.MAX_ANSWER_BYTES + 1), "application/sdp", "more than"),
        ("<html>", "text/html", "application/sdp"),
    ],
)
async def test_an_invalid_answer_fails_the_push(
    open_program: Open, ingest: Ingest, start_push: Any, body: str, content_type: str, detail: str
) -> None:
    hand = await open_program()
    headers = {"Location": "../session/9"}
    ingest.refusals.append(web.Response(status=201, text=body, content_type=content_type, headers=headers))
    pusher = start_push(hand, ingest.url)
    assert detail in str(await pusher.until("failed"))
    await pusher.push.close()
    assert ("DELETE", "/session/9") in ingest.requests


async def test_a_busy_ingest_is_tried_again_not_sooner_than_it_says(open_program: Open, ingest: Ingest) -> None:
    hand = await open_program()
    clock = FakeClock()
    ingest.refusals.extend([web.Response(status=503, headers={"Retry-After": "20"}), web.Response(status=500)])
    pusher = Pusher(hand, WhipTarget("show", ingest.url, TOKEN), clock)
    assert "503" in str(await pusher.until("connecting"))
    await clock.advance(19.0)
    assert len(ingest.requests) == 1
    await clock.advance(1.5)
    assert "500" in str(await pusher.until("connecting", 2))
    await clock.advance(1.5)
    await pusher.until("live")
    await pusher.push.close()


def test_retry_delays_grow_to_a_bound_and_are_random() -> None:
    def delays(jitter: float) -> list[float]:
        push = Push(WhipTarget("t", "http://x"), Any, clock=FakeClock(), on_changed=print, jitter=lambda: jitter)  # type: ignore[arg-type]
        return [push._delay_s(num_failures) for num_failures in (0, 1, 2, 3, 4, 5, 50)]

    assert delays(0.0) == [1, 2, 4, 8, 16, 30, 30]
    assert delays(1.0) == [0.5, 1, 2, 4, 8, 15, 15]


# --- redirects and sessions elsewhere -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [307, 308])
async def test_redirects_of_the_permitted_kinds_are_followed_with_the_token(
    open_program: Open, ingest: Ingest, start_push: Any, status: int
) -> None:
    hand = await open_program()
    ingest.refusals.append(web.Response(status=status, headers={"Location": "/whip/roomier"}))
    pusher = start_push(hand, ingest.url)
    await pusher.until("live")
    assert ingest.requests == [("POST", "/whip/secret-key"), ("POST", "/whip/roomier")]


async def test_redirects_without_end_are_refused(open_program: Open, ingest: Ingest, start_push: Any) -> None:
    hand = await open_program()
    ingest.refusals.extend(web.Response(status=307, headers={"Location": "/whip/next"}) for _ in range(9))
    pusher = start_push(hand, ingest.url)
    assert "more than 3 times" in str(await pusher.until("failed"))


@pytest.mark.parametrize(
    ("configured", "location", "allowed"),
    [
        ("https://a.example/whip", "https://b.example/x", True),
        ("https://a.example/whip", "../s/1", True),
        ("https://a.example/whip", "http://a.example/x", False),
        ("http://a.example/whip", "http://a.example/x", True),
        ("http://a.example/whip", "http://b.example/x", False),
        ("http://a.example/whip", "http://127.0.0.1/x", False),
        ("http://a.example/whip", "https://b.example/x", True),
        ("http://127.0.0.1:1/whip", "http://localhost:2/x", True),
        ("http://127.0.0.1:1/whip", "http://169.254.169.254/x", False),
        ("https://a.example/whip", "file:///etc/passwd", False),
        ("https://a.example/whip", None, False),
    ],
)
async def test_an_ingest_may_send_us_only_to_https_or_its_own_host(
    configured: str, location: str | None, allowed: bool
) -> None:
    async with aiohttp.ClientSession() as http:
        client = WhipClient(WhipTarget("t", configured, TOKEN), http)
        if allowed:
            assert client._allowed(configured, location, "redirects to")
        else:
            with pytest.raises(PushRefused) as refusal:
                client._allowed(configured, location, "redirects to")
            assert "example" not in str(refusal.value)


async def test_an_unreachable_ingest_is_reported_without_its_address() -> None:
    async with aiohttp.ClientSession() as http:
        client = WhipClient(WhipTarget("t", "http://127.0.0.1:9/secret-key"), http)
        with pytest.raises(PushInterrupted) as interruption:
            await client.post("v=0")
    assert str(interruption.value) == "the ingest cannot be reached (connection refused)"


@pytest.mark.parametrize("before", list(PushState))
@pytest.mark.parametrize("after", list(PushState))
async def test_a_push_moves_as_its_table_says(before: PushState, after: PushState) -> None:
    push = Push(WhipTarget("t", "http://x"), Any, clock=FakeClock(), on_changed=print)  # type: ignore[arg-type]
    push.state = before
    if after in NEXT_PUSH_STATE[before]:
        push._move(after, None)
        assert push.state is after
    else:
        with pytest.raises(RuntimeError):
            push._move(after, None)
        assert push.state is before
