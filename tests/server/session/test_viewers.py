"""Who may connect and who may watch: places, whose offer is dropped for another, and the controller's own place."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fakes import SessionHarness, only, types

from server.media.webrtc.signalling import Offer
from server.protocol.errors import Refused
from server.session.viewers import MAX_CONNECTING, MAX_OF_ADDRESS, Viewers

MAX_VIEWERS = 3  # of `SessionHarness`


@pytest.fixture
def slow(harness: SessionHarness) -> SessionHarness:
    """Its viewers watch only when the test says so."""
    harness.program.is_slow_to_connect = True
    return harness


async def add(harness: SessionHarness, address: str | None = None) -> str:
    viewer_id, _ = await harness.session.viewers.add("v=0", address=address)
    return viewer_id


async def refusal(harness: SessionHarness) -> tuple[str, str, int | None]:
    with pytest.raises(Refused) as caught:
        await add(harness)
    return caught.value.detail.code, caught.value.detail.message, caught.value.detail.retry_after_ms


async def test_offers_that_never_connect_take_no_watchers_place(slow: SessionHarness) -> None:
    for _ in range(MAX_CONNECTING - 1):
        await add(slow)
    honest = await add(slow)
    slow.program.connect(honest)
    assert slow.program.is_watching(honest)


async def test_without_a_free_place_the_oldest_that_connects_is_dropped(slow: SessionHarness) -> None:
    gone: list[str] = []
    first, _ = await slow.session.viewers.add("v=0", on_gone=gone.append)
    for _ in range(MAX_CONNECTING - 1):
        await add(slow)
    assert gone == []
    newest = await add(slow)
    assert gone == [first]
    assert len(slow.program.viewers) == MAX_CONNECTING and newest in slow.program.viewers
    await slow.session.viewers.remove(first)  # its goodbye comes late, and is no error


async def test_an_address_loses_its_own_oldest_before_another_address_loses_one(slow: SessionHarness) -> None:
    early = await add(slow, "192.0.2.1")
    flood = [await add(slow, "192.0.2.66") for _ in range(3 * MAX_CONNECTING)]
    assert early in slow.program.viewers
    assert slow.program.viewers[1:] == flood[-(MAX_CONNECTING - 1) :]
    for _ in range(4):  # of a school behind one router, say
        assert await add(slow, "192.0.2.2") in slow.program.viewers
    assert early in slow.program.viewers


async def test_an_address_keeps_few_places_that_nobody_connects_to(slow: SessionHarness) -> None:
    elsewhere = [await add(slow, "192.0.2.1"), await add(slow)]
    crowd = [await add(slow, "192.0.2.66") for _ in range(MAX_CONNECTING - 4)]
    slow.session.tick()
    assert slow.program.viewers == [*elsewhere, *crowd], "all have a second to connect"
    late = [await add(slow, "192.0.2.66") for _ in range(2)]
    slow.session.tick()
    assert slow.program.viewers == [*elsewhere, *crowd[-(MAX_OF_ADDRESS - 2) :], *late]
    slow.session.tick()
    assert len(slow.program.viewers) == len(elsewhere) + MAX_OF_ADDRESS


async def test_a_class_behind_one_router_connects_while_it_is_a_crowd(slow: SessionHarness) -> None:
    pupils = [await add(slow, "192.0.2.66") for _ in range(MAX_VIEWERS - 1)]
    for pupil in pupils:
        slow.program.connect(pupil)
    waiting = [await add(slow, "192.0.2.66") for _ in range(MAX_OF_ADDRESS)]
    slow.session.tick()
    slow.session.tick()
    assert slow.program.viewers == [*pupils, *waiting]


async def test_strangers_that_share_an_unknown_address_keep_their_places(slow: SessionHarness) -> None:
    behind_a_proxy = [await add(slow) for _ in range(MAX_CONNECTING)]
    slow.session.tick()
    slow.session.tick()
    assert slow.program.viewers == behind_a_proxy


async def test_a_viewer_that_watches_is_never_dropped_for_an_offer(slow: SessionHarness) -> None:
    watching = await add(slow, "192.0.2.66")
    slow.program.connect(watching)
    for _ in range(3 * MAX_CONNECTING):
        await add(slow, "192.0.2.66")
    assert slow.program.is_watching(watching)
    assert len(slow.program.viewers) == 1 + MAX_CONNECTING


async def test_while_all_answers_are_still_being_made_further_offers_are_refused(harness: SessionHarness) -> None:
    """There is nobody to drop: an answer in the making cannot be taken back."""
    answering = asyncio.Event()
    add_viewer = harness.program.add_viewer

    async def slowly(offer: str | Offer, **options: object) -> tuple[str, str]:
        await answering.wait()
        harness.program.is_slow_to_connect = True
        return await add_viewer(offer, **options)  # type: ignore[arg-type]

    harness.program.add_viewer = slowly  # type: ignore[method-assign]
    offers = [asyncio.create_task(add(harness)) for _ in range(MAX_CONNECTING)]
    await asyncio.sleep(0)
    assert await refusal(harness) == ("too_many_viewers", "16 viewers connect already", 5000)
    answering.set()
    await asyncio.gather(*offers)
    assert await add(harness) in harness.program.viewers


async def test_answers_to_offers_that_came_together_are_made_one_after_the_other(harness: SessionHarness) -> None:
    answering: list[int] = []
    add_viewer, num_now = harness.program.add_viewer, 0

    async def slow_answer(*args: Any, **kwargs: Any) -> tuple[str, str]:
        nonlocal num_now
        num_now += 1
        answering.append(num_now)
        await asyncio.sleep(0)
        num_now -= 1
        return await add_viewer(*args, **kwargs)

    harness.program.add_viewer = slow_answer  # type: ignore[method-assign]
    await asyncio.gather(*(add(harness) for _ in range(MAX_VIEWERS)))
    assert answering == [1] * MAX_VIEWERS


async def test_a_viewer_that_is_lost_or_refused_gives_its_place_back(slow: SessionHarness) -> None:
    places = slow.session.viewers._connecting
    assert places == []
    slow.program.lose(await add(slow))
    await slow.session.viewers.remove(await add(slow))
    with pytest.raises(Refused):
        await slow.session.viewers.add("hello")
    assert slow.session.viewers._connecting == []


async def test_when_all_places_are_taken_offers_are_refused(slow: SessionHarness) -> None:
    for _ in range(MAX_VIEWERS):
        slow.program.connect(await add(slow))
    assert await refusal(slow) == ("too_many_viewers", "3 viewers watch already", 5000)
    with pytest.raises(Refused):
        slow.session.viewers.watch()


async def test_of_more_that_connect_than_may_watch_the_last_ones_are_dropped(slow: SessionHarness) -> None:
    viewers = [await add(slow) for _ in range(MAX_VIEWERS + 2)]
    for viewer_id in viewers:
        slow.program.connect(viewer_id)
    assert slow.program.viewers == viewers[:MAX_VIEWERS]
    assert slow.program.num_viewers == MAX_VIEWERS


async def test_the_controllers_own_viewer_has_a_place_beside_all_others(slow: SessionHarness) -> None:
    for _ in range(MAX_VIEWERS):
        slow.program.connect(await add(slow))
    for _ in range(2):
        assert types(await slow.say("webrtc.offer", sdp="v=0")) == ["webrtc.answer"]
        own = slow.program.viewers[-1]
        slow.program.connect(own)
        assert slow.program.is_watching(own)
    await slow.session.viewers.remove(slow.program.viewers[0])
    slow.program.connect(await add(slow))
    assert slow.program.num_viewers == MAX_VIEWERS + 1


async def test_the_controllers_own_viewer_gets_the_udp_port_of_one_that_connects(slow: SessionHarness) -> None:
    watching = await add(slow)
    slow.program.connect(watching)
    await add(slow)
    slow.program.num_ports = 2
    assert await refusal(slow) == ("too_many_viewers", "no UDP port is free", 5000)
    assert types(await slow.say("webrtc.offer", sdp="v=0")) == ["webrtc.answer"]
    assert slow.program.is_watching(watching) and len(slow.program.viewers) == 2


async def test_the_controllers_own_viewer_is_not_dropped_while_it_connects(slow: SessionHarness) -> None:
    await slow.say("webrtc.offer", sdp="v=0")
    own = slow.program.viewers[0]
    for _ in range(3 * MAX_CONNECTING):
        await add(slow)
    assert own in slow.program.viewers


async def test_a_viewer_that_connects_keeps_no_scene_going(slow: SessionHarness) -> None:
    joined: list[int] = []
    viewers = Viewers(slow.program, max_viewers=3, on_joined=lambda: joined.append(1), log=lambda text: None)
    viewer_id, _ = await viewers.add("v=0")
    assert joined == [] and not slow.session._is_seen()
    slow.program.connect(viewer_id)
    assert joined == [1] and slow.session._is_seen()


async def test_statistics_count_who_watches(slow: SessionHarness) -> None:
    slow.program.connect(await add(slow))
    await add(slow)
    await slow.clock.advance(1.0)
    slow.session.tick()
    assert only(await slow.hear(), "stats.updated")["viewers"] == 1
