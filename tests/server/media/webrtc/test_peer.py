"""One viewer: answers, refusals and their codes, its end, and the private names of aiortc that we use."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiortc
import av
import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpCodecCapability, RTCRtpSender, RTCSessionDescription
from aiortc.sdp import SessionDescription

from server.clock import FakeClock
from server.media.program_format import MediaSettings
from server.media.video.encoder import EncodedFrame, Encoder
from server.media.video.fanout import Fanout
from server.media.video.rendition import Codec, ladder
from server.media.webrtc import peer as peer_module
from server.media.webrtc import signalling, stock_sender
from server.media.webrtc.addresses import is_public
from server.media.webrtc.pacer import Pacer
from server.media.webrtc.peer import Peer, PeerState, Source, ViewerTimeouts
from server.media.webrtc.signalling import Answer, OfferError, checked_offer
from server.media.webrtc.stock_sender import BACKLOG_INTERVAL_S, ViewerTrack

Open = Callable[..., Awaitable[Any]]


def codecs_of(sdp: str) -> list[tuple[str, str | None]]:
    (video,) = [media for media in SessionDescription.parse(sdp).media if media.kind == "video"]
    return [(c.name, c.parameters.get("packetization-mode")) for c in video.rtp.codecs if c.name != "rtx"]


# --- answers ------------------------------------------------------------------------------------------------------


async def test_the_answer_sends_h264_in_packetization_mode_1_only(open_program: Open, new_receiver: Any) -> None:
    hand = await open_program()
    receiver = new_receiver()
    await receiver.watch(hand.program)
    assert set(codecs_of(receiver.answer)) == {("H264", "1")}
    assert "a=sendonly" in receiver.answer
    assert "a=candidate:" in receiver.answer


async def test_a_viewer_without_h264_gets_vp8_beside_the_others(open_program: Open, new_receiver: Any) -> None:
    hand = await open_program()
    modern, old = new_receiver(), new_receiver()
    old.transceiver.setCodecPreferences(codecs("video/VP8"))
    for receiver in (modern, old):
        await receiver.watch(hand.program)
        first, _ = await receiver.marked()
        following = [(await receiver.marked())[0] for _ in range(8)]
        assert [first, *following] == hand.sent_from(first, 9)
    assert codecs_of(old.answer) == [("VP8", None)]
    assert {name for name, _ in codecs_of(modern.answer)} == {"H264"}


async def test_the_viewer_begins_the_dtls_handshake_unless_it_will_not(open_program: Open, new_receiver: Any) -> None:
    """aiortc as DTLS client refuses RSA certificates, which GStreamer's webrtcbin has."""
    hand = await open_program()
    for wish, answer in (("actpass", "passive"), ("passive", "active"), ("active", "passive")):
        offer = (await new_receiver().offer()).replace("a=setup:actpass", f"a=setup:{wish}")
        viewer_id, sdp = await hand.program.add_viewer(offer)
        assert f"a=setup:{answer}\r\n" in sdp
        await hand.program.remove_viewer(viewer_id)


async def test_a_viewer_that_offers_to_send_may_only_receive(open_program: Open, new_receiver: Any) -> None:
    hand = await open_program()
    receiver = new_receiver()
    receiver.transceiver.direction = "sendrecv"
    await receiver.watch(hand.program)
    assert "a=sendonly" in receiver.answer
    await receiver.marked()


async def test_an_offer_with_audio_and_data_gets_its_video(open_program: Open, new_receiver: Any) -> None:
    hand = await open_program()
    receiver = new_receiver()
    receiver.connection.addTransceiver("audio", direction="recvonly")
    receiver.connection.createDataChannel("chat")
    await receiver.watch(hand.program)
    await receiver.marked()


async def test_a_viewers_data_channel_reaches_nobody(open_program: Open, new_receiver: Any) -> None:
    """Even if the viewer ignores our answer: without SCTP on our side, nothing keeps what it sends."""
    hand = await open_program()
    receiver = new_receiver()
    receiver.connection.createDataChannel("chat")
    await receiver.watch(hand.program)
    await receiver.marked()
    assert re.search(r"^m=application 0 ", receiver.answer, re.MULTILINE)
    (peer,) = hand.program._peers.values()
    assert peer._connection.sctp is None
    for transceiver in peer._connection.getTransceivers():
        assert transceiver.receiver.transport._data_receiver is None


async def test_a_viewer_that_hides_its_addresses_is_reached(open_program: Open, new_receiver: Any) -> None:
    hand = await open_program()
    receiver = new_receiver()
    offer = await receiver.offer()
    hidden = "".join(_hidden(line) for line in offer.splitlines(keepends=True))
    assert ".local" in hidden
    receiver.viewer_id, answer = await hand.program.add_viewer(hidden)
    await receiver.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await receiver.marked()


def _hidden(line: str) -> str:
    if not line.startswith("a=candidate:"):
        return line
    fields = line.split(" ")
    fields[4] = "5b2d1a7e-0b8e-4f8c-9a53-7a1f4f2d9c11.local"
    return " ".join(fields)


async def test_trickled_candidates_connect_a_viewer(open_program: Open, new_receiver: Any) -> None:
    hand = await open_program()
    receiver = new_receiver()
    offer = await receiver.offer()
    lines = offer.splitlines(keepends=True)
    candidates = [line[2:].strip() for line in lines if line.startswith("a=candidate:")]
    bare = "".join(line for line in lines if not line.startswith(("a=candidate:", "a=end-of")))
    viewer_id, answer = await hand.program.add_viewer(bare)
    for candidate in [*candidates, candidates[0], ""]:
        await hand.program.add_candidate(viewer_id, candidate, "0", 0)
    await hand.program.add_candidate("viewer_nobody", candidates[0], "0", 0)
    for port in range(20):
        await hand.program.add_candidate(viewer_id, f"candidate:1 1 udp 1 10.0.0.1 {5000 + port} typ host", "0", 0)
    tried = hand.program._peers[viewer_id]._connection.getTransceivers()[0].receiver.transport.transport
    private = [one for one in tried.getRemoteCandidates() if not is_public(one.ip)]
    assert len(private) <= signalling.MAX_PRIVATE_CANDIDATES
    await receiver.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await receiver.marked()


# --- viewers that send --------------------------------------------------------------------------------------------


class Still(aiortc.VideoStreamTrack):
    """The same picture again and again: almost nothing to send, but a whole frame each time to decode."""

    async def recv(self) -> av.VideoFrame:
        frame = av.VideoFrame(640, 360, "yuv420p")
        frame.pts, frame.time_base = await self.next_timestamp()
        return frame


async def attack(hand: Any, offer: Callable[[str], str], sound: str | None) -> Attack:
    """A viewer whose aiortc sends, although our answer forbids it."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTrack(Still())
    if sound is not None:
        connection.addTransceiver(aiortc.AudioStreamTrack(), direction=sound)
    await connection.setLocalDescription(await connection.createOffer())
    viewer_id, answer = await hand.program.add_viewer(offer(connection.localDescription.sdp))
    willing = answer.replace("a=inactive", "a=sendrecv").replace("a=sendonly", "a=sendrecv")
    await connection.setRemoteDescription(RTCSessionDescription(willing, "answer"))
    return Attack(connection, hand.program._peers[viewer_id]._connection, answer)


@dataclass
class Attack:
    theirs: RTCPeerConnection
    ours: RTCPeerConnection
    answer: str

    async def until_sent(self, num_packets: int) -> None:
        """Waits until so many of its RTP packets have reached our DTLS transport."""
        arrived = asyncio.Event()
        count = itertools.count(1)
        for transport in {transceiver.receiver.transport for transceiver in self.ours.getTransceivers()}:
            handle = transport._handle_rtp_data

            async def note(data: bytes, arrival_time_ms: int, handle: Any = handle) -> None:
                await handle(data, arrival_time_ms)
                if next(count) >= num_packets:
                    arrived.set()

            transport._handle_rtp_data = note
        await asyncio.wait_for(arrived.wait(), 15.0)


@pytest.mark.parametrize("sound", [None, "sendrecv", "sendonly"])
@pytest.mark.parametrize(
    "offer", [lambda sdp: sdp, lambda sdp: sdp.replace("a=sendrecv\r\n", "")], ids=["both ways", "no direction"]
)
async def test_media_that_a_viewer_sends_is_neither_decoded_nor_kept(
    open_program: Open, offer: Callable[[str], str], sound: str | None
) -> None:
    hand = await open_program()
    attacker = await attack(hand, offer, sound)
    try:
        assert "a=sendrecv" not in attacker.answer and "a=recvonly" not in attacker.answer
        await attacker.until_sent(30)
        for transceiver in attacker.ours.getTransceivers():
            receiver: Any = transceiver.receiver
            assert receiver.track is None
            assert receiver._RTCRtpReceiver__decoder_thread is None
            assert receiver._RTCRtpReceiver__decoder_queue.empty()
    finally:
        await attacker.theirs.close()


async def test_a_second_video_that_sends_is_refused_before_any_socket_is_opened(open_program: Open) -> None:
    hand = await open_program()
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTransceiver("video", direction="recvonly")
    connection.addTransceiver(Still(), direction="sendonly")
    await connection.setLocalDescription(await connection.createOffer())
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OfferError, match="got a second one"):
        await hand.program.add_viewer(connection.localDescription.sdp)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    await connection.close()


async def test_an_ingest_that_sends_is_refused_even_if_its_answer_slipped_through() -> None:
    clock = FakeClock()
    peer = Peer("v", source(clock), clock=clock, timeouts=ViewerTimeouts(), on_lost=lambda *_: None)
    other = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    await other.setRemoteDescription(RTCSessionDescription(await peer.offer(with_audio=False), "offer"))
    other.addTrack(Still())
    await other.setLocalDescription(await other.createAnswer())
    unchecked = other.localDescription.sdp.replace("a=recvonly", "a=sendrecv")
    with pytest.raises(OfferError, match="we only send"):
        await peer.accept(Answer(unchecked, rejects_audio=False))
    await peer.close()
    await other.close()


# --- refusals -----------------------------------------------------------------------------------------------------


async def plain_offer(*codecs: RTCRtpCodecCapability, direction: str = "recvonly", kind: str = "video") -> str:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        transceiver = connection.addTransceiver(kind, direction=direction)
        if codecs:
            transceiver.setCodecPreferences(list(codecs))
        await connection.setLocalDescription(await connection.createOffer())
        return connection.localDescription.sdp
    finally:
        await connection.close()


def codecs(mime_type: str) -> list[RTCRtpCodecCapability]:
    return [c for c in RTCRtpSender.getCapabilities("video").codecs if c.mimeType == mime_type]


NOT_SDP = {
    "empty": "",
    "text": "hello",
    "json": '{"type":"offer"}',
    "version only": "v=0",
    "binary": "v=0\r\n\x00\xff\x00",
    "broken media line": "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video\r\n",
    "unknown payload type": "v=0\r\ns=-\r\nt=0 0\r\nm=video 9 RTP/AVP 96\r\na=fmtp:97 x=1\r\n",
    "lone surrogate": "v=0\r\ns=\ud800\r\nm=video 9 X 96\r\n",
}


@pytest.mark.parametrize("oddity", NOT_SDP)
def test_what_is_not_sdp_is_refused(oddity: str) -> None:
    with pytest.raises(OfferError) as refusal:
        checked_offer(NOT_SDP[oddity])
    assert refusal.value.code in ("invalid_sdp", "no_video")
    assert refusal.value.message


async def test_offers_that_cannot_be_answered_are_refused_with_their_code() -> None:
    video = await plain_offer()
    head, section = video.split("m=video", 1)
    h264 = await plain_offer(*codecs("video/H264"))
    refused = {
        "audio only": (await plain_offer(kind="audio"), "no_video"),
        "video that only sends": (await plain_offer(direction="sendonly"), "no_video"),
        "inactive video": (await plain_offer(direction="inactive"), "no_video"),
        "rejected video": (video.replace("m=video " + section.split()[0], "m=video 0"), "no_video"),
        "no sections": (head, "no_video"),
        "no codec of ours": (h264.replace("H264", "H265"), "no_video_codec"),
        "packetization mode 0": (h264.replace("packetization-mode=1", "packetization-mode=0"), "no_video_codec"),
        "main profile": (h264.replace("42001f", "4d001f").replace("42e01f", "4d001f"), "no_video_codec"),
        "no ICE": (video.replace("a=ice-ufrag", "a=x-ufrag"), "invalid_sdp"),
        "no DTLS": (video.replace("a=fingerprint", "a=x-fingerprint"), "invalid_sdp"),
        "no rtcp-mux": (video.replace("a=rtcp-mux", "a=x-mux"), "invalid_sdp"),
        "too many sections": (head + ("m=video" + section) * 5, "invalid_sdp"),
        "unknown section": (video.replace("m=video", "m=image"), "invalid_sdp"),
    }
    for oddity, (offer, code) in refused.items():
        with pytest.raises(OfferError) as refusal:
            checked_offer(offer)
        assert refusal.value.code == code, oddity


async def test_an_offer_that_aiortc_fails_on_is_refused_and_leaves_nothing_open(open_program: Open) -> None:
    hand = await open_program()
    offer = await plain_offer()
    before = len(list(Path("/proc/self/fd").iterdir()))
    broken = (
        offer
        + "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"
        + "".join(
            f"{line}\r\n"
            for line in offer.splitlines()
            if line.startswith(("a=ice-", "a=finger", "a=setup", "a=rtcp-mux"))
        )
    )
    with pytest.raises(OfferError) as refusal:
        await hand.program.add_viewer(broken)
    assert refusal.value.code == "invalid_sdp"
    assert hand.program._peers == {}
    assert hand.lost == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    "candidate",
    [
        "candidate:1 1 udp 2130706431 host.example.com 5000 typ host",
        "candidate:1 1 udp 2130706431 1f6b.local 5000 typ host",
        "candidate:1 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active",
        "",
        "rubbish",
    ],
)
def test_candidates_that_would_be_looked_up_or_cannot_be_used_are_left_out(candidate: str) -> None:
    assert signalling.parsed_candidate(candidate, "0", 0) is None


@pytest.mark.parametrize(
    ("candidate", "sdp_mid"),
    [
        ("candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host", None),
        ("candidate:1 one udp 2130706431 192.0.2.1 5000 typ host", "0"),
        ("candidate:1 1 udp 2130706431 192.0.2.1 many typ host", "0"),
    ],
)
def test_broken_candidates_are_refused(candidate: str, sdp_mid: str | None) -> None:
    with pytest.raises(OfferError) as refusal:
        signalling.parsed_candidate(candidate, sdp_mid, None)
    assert refusal.value.code == "invalid_sdp"


async def test_only_some_candidates_of_a_flood_are_used() -> None:
    bare = "".join(line for line in (await plain_offer()).splitlines(True) if not line.startswith("a=candidate"))
    flood = bare + "a=candidate:1 1 udp 1 8.8.8.8 5000 typ host\r\n" * 500
    assert checked_offer(flood).sdp.count("a=candidate") == signalling.MAX_CANDIDATES
    private = bare + "a=candidate:1 1 udp 1 10.0.0.1 5000 typ host\r\n" * 500
    offer = checked_offer(private + "a=candidate:1 1 udp 1 8.8.8.8 5000 typ host\r\n").sdp
    assert (offer.count("10.0.0.1"), offer.count("8.8.8.8")) == (signalling.MAX_PRIVATE_CANDIDATES, 1)


def source(clock: FakeClock) -> Source:
    renditions = {codec: ladder(128, 128, 100_000, codec) for codec in Codec}
    return Source(Fanout(renditions[Codec.H264][0], 48), Pacer(clock), renditions, clock.now())


# --- the end of a viewer ------------------------------------------------------------------------------------------


async def test_a_failure_inside_the_stock_track_is_logged_and_ends_that_viewer(
    open_program: Open, new_receiver: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hand = await open_program(media=MediaSettings(uses_stock_sender=True))
    fails, stays = new_receiver(), new_receiver()
    for receiver in (fails, stays):
        await receiver.watch(hand.program)
        await receiver.marked()

    def broken(_: EncodedFrame) -> None:
        raise RuntimeError("scripted")

    monkeypatch.setattr(hand.program._peers[fails.viewer_id]._sending.track, "_on_sent", broken)
    await hand.until(lambda: hand.lost)
    assert hand.lost == [fails.viewer_id]
    assert "scripted" in caplog.text
    await stays.marked()


async def test_a_viewer_that_never_connects_is_lost_once_after_its_timeout() -> None:
    clock = FakeClock()
    lost: list[str] = []
    timeouts = ViewerTimeouts(connect_s=10.0, silence_s=5.0)
    peer = Peer("v", source(clock), clock=clock, timeouts=timeouts, on_lost=lambda _, reason: lost.append(reason))
    await peer.open(await plain_offer())
    await clock.advance(9.9)
    peer.check_alive()
    assert lost == []
    await clock.advance(0.2)
    peer.check_alive()
    peer.check_alive()
    assert lost == ["connect_timeout"]
    await peer.close()
    await peer.close()
    assert peer.state is PeerState.CLOSED


async def test_a_viewer_that_may_not_watch_is_lost_when_it_has_connected(open_program: Open, new_receiver: Any) -> None:
    hand = await open_program()
    receiver = new_receiver()
    asked: list[str] = []

    def refuse(viewer_id: str) -> bool:
        assert hand.program.is_watching(viewer_id), "it counts already"
        asked.append(viewer_id)
        return False

    viewer_id, answer = await hand.program.add_viewer(await receiver.offer(), on_watching=refuse)
    assert not hand.program.is_watching(viewer_id)
    await receiver.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await hand.until(lambda: hand.lost)
    assert asked == hand.lost == [viewer_id]


@pytest.mark.parametrize("what", ["hangs", "fails"])
async def test_a_connection_that_cannot_close_loses_its_sockets(what: str, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    timeouts = ViewerTimeouts(close_s=0.01)
    peer = Peer("v", source(clock), clock=clock, timeouts=timeouts, on_lost=lambda *_: None)
    await peer.open(await plain_offer())
    connection: Any = peer._connection
    udp = [one.transport for one in connection.getTransceivers()[0].receiver.transport.transport._connection._protocols]
    released = asyncio.Event()

    async def hang() -> None:
        """Not even a cancellation ends it, as when aioice waits for its consent task."""
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    async def fail() -> None:
        raise AttributeError("scripted")

    close, connection.close = connection.close, hang if what == "hangs" else fail
    await peer.close()
    assert "did not close" in caplog.text
    assert udp and all(one.is_closing() for one in udp)
    released.set()
    await close()


async def test_a_viewer_that_is_closed_between_two_transports_leaves_no_failed_task() -> None:
    unseen: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))
    clock = FakeClock()
    timeouts = ViewerTimeouts(close_s=10.0)
    peer = Peer("v", source(clock), clock=clock, timeouts=timeouts, on_lost=lambda *_: None)
    caller = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in ("video", "audio"):
        caller.addTransceiver(kind, direction="recvonly")
    await caller.setLocalDescription(await caller.createOffer())
    is_starting, may_start, is_closing, may_close = (asyncio.Event() for _ in range(4))
    negotiate = peer._connection.setRemoteDescription

    async def held(description: RTCSessionDescription) -> None:
        """The first transport begins, and the second one ends, when the test says so."""
        await negotiate(description)
        first, second = [one.receiver.transport.transport for one in peer._connection.getTransceivers()]

        async def start(parameters: object) -> None:
            is_starting.set()
            await may_start.wait()

        async def close() -> None:
            is_closing.set()
            await may_close.wait()
            await close_second()

        first.start, close_second, second._connection.close = start, second._connection.close, close

    peer._connection.setRemoteDescription = held  # type: ignore[method-assign]
    await peer.open(re.sub(r"a=group:BUNDLE.*\r\n", "", caller.localDescription.sdp))
    await is_starting.wait()
    closing = asyncio.create_task(peer.close())
    await is_closing.wait()
    may_start.set()
    await asyncio.sleep(0)
    may_close.set()
    await closing
    await caller.close()
    gc.collect()
    assert unseen == []


@pytest.mark.parametrize("before", list(PeerState))
@pytest.mark.parametrize("after", list(PeerState))
async def test_a_viewers_state_goes_forward_only(before: PeerState, after: PeerState) -> None:
    order = list(PeerState)
    clock = FakeClock()
    peer = Peer("v", source(clock), clock=clock, timeouts=ViewerTimeouts(), on_lost=lambda *_: None)
    peer._state = before
    is_legal = before is not PeerState.CLOSED and (
        after is PeerState.CLOSED or order.index(after) == order.index(before) + 1
    )
    if is_legal:
        peer._move(after)
        assert peer.state is after
    else:
        with pytest.raises(RuntimeError):
            peer._move(after)
        assert peer.state is before
    await peer._connection.close()


async def test_a_viewer_that_joins_gets_what_waited_spaced_out_and_live_frames_at_once() -> None:
    clock = FakeClock()
    (rendition,) = ladder(128, 128, 100_000)
    fanout = Fanout(rendition, 48)
    encoder = Encoder(rendition, 24)
    black = np.full((192, 128), 128, np.uint8)
    frames = [encoder.encode(black, index) for index in range(8)]
    for frame in frames[:6]:
        fanout.put({rendition: frame})
    track = ViewerTrack(fanout.subscribe, clock=clock, on_sent=lambda _: None, on_ended=lambda _: None)
    received: list[float] = []

    async def sender() -> None:
        for _ in frames:
            await track.recv()
            received.append(clock.now())

    sending = asyncio.create_task(sender())
    await clock.advance(1.0)
    gaps = [after - before for before, after in itertools.pairwise(received)]
    assert gaps == [pytest.approx(BACKLOG_INTERVAL_S)] * 5
    fanout.put({rendition: frames[6]})
    await clock.advance(0.0)
    fanout.put({rendition: frames[7]})
    await clock.advance(0.0)
    assert len(received) == 8
    await sending
    track.stop()


# --- aiortc's private names ---------------------------------------------------------------------------------------


async def test_aiortc_still_has_the_private_names_that_we_use() -> None:
    assert aiortc.__version__ == "1.16.0"
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    transceiver: Any = connection.addTransceiver("video")
    sender = transceiver.sender
    assert getattr(transceiver, peer_module._SENDER) is sender
    assert hasattr(sender, stock_sender._RTP_TIMESTAMP)
    assert asyncio.iscoroutinefunction(sender._handle_rtcp_packet)
    assert callable(sender._send_keyframe)
    assert transceiver.receiver._enabled is True
    await connection.close()
