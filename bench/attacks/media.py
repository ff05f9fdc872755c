"""Attacks on the media: offers, candidates, packets to a viewer's port, feedback, data channels. See `attacker.py`."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from aiortc.rtcsctptransport import SCTP_DATA_FIRST_FRAG, SCTP_DATA_LAST_FRAG, DataChunk
from aiortc.rtp import RTCP_PSFB_PLI, RTCP_RTPFB_NACK, RtcpPsfbPacket, RtcpRtpfbPacket
from av import VideoFrame

from bench.attacks.attacker import OFFER_TYPE, SHOW, Attacker, Outcome, answer_of, told, until

WHEP = f"/whep/{SHOW}"
MAX_UNWATCHED_BY_PEER = 4
# An address may have more for two ticks of a second (`server.session.viewers`), less than a place lasts: 5 s.
CROWD_S = 2.5
CONNECT_TIMEOUT_S = 20.0
# Of each flood of packets, so that the attacker's own loop is no bound. A turn of the loop after each.
PACKETS_A_TURN = 50


class Watching:
    """A real viewer of the show. Counts the pictures that it decodes."""

    def __init__(self, connection: RTCPeerConnection) -> None:
        self.connection = connection
        self.num_frames = 0
        self.has_seen = asyncio.Event()

    @property
    def ports(self) -> list[tuple[str, int]]:
        """Where the server receives this viewer's packets."""
        sdp = self.connection.remoteDescription.sdp
        found = re.findall(r"a=candidate:\S+ \d+ udp \d+ (\S+) (\d+) typ host", sdp)
        return [(address, int(port)) for address, port in found]

    @property
    def transport(self) -> Any:
        return self.connection.getTransceivers()[0].receiver.transport

    async def count(self, track: Any) -> None:
        with contextlib.suppress(Exception):  # its end
            while True:
                await track.recv()
                self.num_frames += 1
                self.has_seen.set()


def new_connection() -> RTCPeerConnection:
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


async def offer_of(connection: RTCPeerConnection) -> str:
    await connection.setLocalDescription(await connection.createOffer())
    return str(connection.localDescription.sdp)


@asynccontextmanager
async def watching(
    http: aiohttp.ClientSession, path: str = WHEP, *, channel: str | None = None
) -> AsyncIterator[Watching]:
    """A viewer that has its first picture. Raises `ConnectionError` if it is refused."""
    connection = new_connection()
    viewer = Watching(connection)
    counting: list[asyncio.Task[None]] = []
    connection.on("track", lambda track: counting.append(asyncio.create_task(viewer.count(track))))
    connection.addTransceiver("video", direction="recvonly")
    if channel is not None:
        is_open = asyncio.Event()
        connection.createDataChannel(channel).on("open", is_open.set)
    try:
        async with http.post(path, data=await offer_of(connection), headers=OFFER_TYPE) as response:
            if response.status != 201:
                raise ConnectionError(await answer_of(response))
            await connection.setRemoteDescription(RTCSessionDescription(await response.text(), "answer"))
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await viewer.has_seen.wait()
            if channel is not None:
                await is_open.wait()
        yield viewer
    finally:
        await connection.close()
        for task in counting:
            task.cancel()
        await asyncio.gather(*counting, return_exceptions=True)


# --- offers -------------------------------------------------------------------------------------------------------


async def sending_viewer(attacker: Attacker) -> Outcome:
    """A viewer whose offer has a second video track, which sends one still picture again and again (finding C1)."""

    class Still(VideoStreamTrack):
        async def recv(self) -> VideoFrame:
            frame = VideoFrame(1280, 720, "yuv420p")
            frame.pts, frame.time_base = await self.next_timestamp()
            return frame

    connection = new_connection()
    connection.addTransceiver("video", direction="recvonly")
    connection.addTransceiver(Still(), direction="sendonly")
    try:
        async with attacker.http.post(WHEP, data=await offer_of(connection), headers=OFFER_TYPE) as response:
            if response.status != 201:
                return Outcome(await answer_of(response))
            await connection.setRemoteDescription(RTCSessionDescription(await response.text(), "answer"))
        await asyncio.sleep(attacker.seconds)
        return Outcome("taken, and decoded")
    finally:
        await connection.close()


def _offer_with(*lines: str) -> str:
    head = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "m=video 9 UDP/TLS/RTP/SAVPF 96", "a=mid:0", "a=recvonly"]
    head += ["a=ice-ufrag:abcd", "a=ice-pwd:abcdefghijklmnopqrstuv", "a=fingerprint:sha-256 AB:CD", "a=setup:active"]
    return "".join(f"{line}\r\n" for line in [*head, "a=rtcp-mux", "a=rtpmap:96 VP8/90000", *lines])


async def quadratic_offer(attacker: Attacker) -> Outcome:
    """One offer of 41 KB in which each feedback line applies to each codec (C2)."""
    offer = _offer_with(*["a=rtpmap:96 VP8/90000"] * 1000, *["a=rtcp-fb:* nack"] * 1000)
    return Outcome((await attacker.post(WHEP, offer))[0])


async def large_offers(attacker: Attacker) -> Outcome:
    """Offers at the bounds of each kind of line, and beyond: as large as they may be, with real credentials (C2)."""
    connection = new_connection()
    connection.addTransceiver("video", direction="recvonly")
    good = await offer_of(connection)
    await connection.close()
    codecs = [f"a=rtpmap:{96 + number % 30} H264/90000" for number in range(120)]
    offers = (
        good + "".join(f"{line}\r\n" for line in codecs + ["a=rtcp-fb:* nack"] * 250),
        good + "a=ssrc:1 cname:x\r\n" * 60 + "a=extmap:1 urn:x\r\n" * 30,
        good + "a=fmtp:96 x=1\r\n" * 120,
        good + "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n" * 300,
        good + "a=x:" + "y" * 20_000 + "\r\n",
        good.replace("m=video", "m=audio 9 x 0\r\nm=video", 1),
        _offer_with("a=ssrc:1 cname:x") * 3,
        "v=0\r\n" * 6000,
        "\x00" * 30_000,
        good[: len(good) // 2],
    )

    async def ask(number: int) -> str:
        return (await attacker.post(WHEP, offers[number % len(offers)]))[0]

    return Outcome(told(await attacker.repeat(ask, at_once=2)))


async def offers_that_never_connect(attacker: Attacker) -> Outcome:
    """Offers without an end; beside them, an honest viewer from another address wants to watch (H6)."""
    connection = new_connection()
    connection.addTransceiver("video", direction="recvonly")
    offer = await offer_of(connection)
    await connection.close()

    async def ask(number: int) -> str:
        return (await attacker.post(WHEP, offer))[0]

    flooding = asyncio.create_task(attacker.repeat(ask, at_once=8))
    await asyncio.sleep(attacker.seconds / 4)
    holes = []
    try:
        async with attacker.insider() as http, watching(http):
            pass
    except (ConnectionError, TimeoutError) as error:
        holes.append(f"an honest viewer was kept out: {error!r}")
    return Outcome(told(await flooding), holes)


async def unwatched_places(attacker: Attacker) -> Outcome:
    """64 offers of one address that never connect: how many viewer places does it hold after some seconds?

    Until then, the server cannot know which of them will connect.
    """
    connection = new_connection()
    connection.addTransceiver("video", direction="recvonly")
    offer = await offer_of(connection)
    await connection.close()
    places = [place for _, place in [await attacker.post(WHEP, offer) for _ in range(64)] if place]
    await asyncio.sleep(CROWD_S)

    async def is_held(place: str) -> bool:
        headers = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": '"another"'}
        async with attacker.http.patch(place, data="a=mid:0\r\n", headers=headers) as response:
            return response.status != 404

    held = sum([await is_held(place) for place in places])
    holes = [f"{held} unwatched places"] if held > MAX_UNWATCHED_BY_PEER else []
    return Outcome(f"{held} of 64 places held", holes)


async def calls(attacker: Attacker) -> Outcome:
    """Calls that never connect; each may start a stage."""
    connection = new_connection()
    connection.addTransceiver("video", direction="recvonly")
    connection.createDataChannel("events")
    offer = await offer_of(connection)
    await connection.close()

    async def ask(number: int) -> str:
        return (await attacker.post("/v1/realtime/calls", offer))[0]

    return Outcome(told(await attacker.repeat(ask, at_once=4)))


async def candidates(attacker: Attacker) -> Outcome:
    """A viewer that connects, and then trickles candidates without an end, 400 with each PATCH."""
    connection = new_connection()
    connection.addTransceiver("video", direction="recvonly")
    offer = await offer_of(connection)
    try:
        async with attacker.http.post(WHEP, data=offer, headers=OFFER_TYPE) as response:
            place, etag = response.headers["Location"], response.headers["ETag"]
            await connection.setRemoteDescription(RTCSessionDescription(await response.text(), "answer"))
        lines = [f"a=candidate:{n} 1 udp 1 198.51.100.{n % 250} {n + 1024} typ host\r\n" for n in range(400)]
        bodies = ("a=mid:0\r\n" + "".join(lines), "a=mid:0\r\n" + "a=candidate:x\r\n" * 400, "a=ice-ufrag:other\r\n")

        async def ask(number: int) -> str:
            headers = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": etag}
            async with attacker.http.patch(place, data=bodies[number % len(bodies)], headers=headers) as response:
                return await answer_of(response)

        return Outcome(told(await attacker.repeat(ask, at_once=4)))
    finally:
        await connection.close()


# --- packets ------------------------------------------------------------------------------------------------------


async def stray_packets(attacker: Attacker) -> Outcome:
    """Broken STUN, DTLS, RTP and noise from a stranger to the port of somebody who watches, and of one who connects."""
    connecting = new_connection()
    connecting.addTransceiver("video", direction="recvonly")
    async with attacker.insider() as http, watching(http) as victim:
        async with http.post(WHEP, data=await offer_of(connecting), headers=OFFER_TYPE) as response:
            waiting = Watching(connecting)
            await connecting.setRemoteDescription(RTCSessionDescription(await response.text(), "answer"))
        ports = [*victim.ports, *waiting.ports]
        cookie = bytes.fromhex("2112a442")
        shapes = (
            b"\x00\x01\x00\x04" + cookie + bytes(12) + b"\x00\x06\x00\x00",  # STUN, short attributes
            b"\x01\x01\x00\x08" + cookie + bytes(12) + b"\x00\x20\x00\x04\x00\x01\x00\x00",
            b"\x00\x01\x00\x00" + bytes(16),  # no cookie
            b"\x16\xfe\xfd" + bytes(1200),  # DTLS
            b"\x80\x60" + bytes(1200),  # RTP
            b"\x80\xc8\x00\x06" + bytes(24),  # RTCP
            attacker.random.randbytes(1400),
            b"",
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.setblocking(False)
            has_time, num_sent, num_frames = attacker.until_end(), 0, victim.num_frames
            while has_time():
                for number in range(PACKETS_A_TURN):
                    with contextlib.suppress(OSError):
                        udp.sendto(shapes[(num_sent + number) % len(shapes)], ports[number % len(ports)])
                num_sent += PACKETS_A_TURN
                await asyncio.sleep(0.002)
        num_frames = victim.num_frames - num_frames
        await connecting.close()
    holes = [] if num_frames else ["the victim saw no picture any more"]
    return Outcome(f"{num_sent} packets; the victim saw {num_frames} pictures", holes)


async def feedback(attacker: Attacker) -> Outcome:
    """A viewer that asks for keyframes (PLI) and for lost packets (NACK) as fast as it can."""
    async with watching(attacker.http) as viewer:
        ssrc = next(iter(viewer.connection.getTransceivers()[0].receiver._RTCRtpReceiver__remote_streams))
        has_time, num_sent = attacker.until_end(), 0
        number = 0
        while has_time():
            for _ in range(PACKETS_A_TURN):
                number = (number + 17) % 65000
                lost = [number + offset for offset in range(17)]
                nack = RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=1, media_ssrc=ssrc, lost=lost)
                pli = RtcpPsfbPacket(fmt=RTCP_PSFB_PLI, ssrc=1, media_ssrc=ssrc)
                with contextlib.suppress(ConnectionError):
                    await viewer.transport._send_rtp(bytes(nack))
                    await viewer.transport._send_rtp(bytes(pli))
            num_sent += 2 * PACKETS_A_TURN
            await asyncio.sleep(0.002)
        return Outcome(f"{num_sent} sent")


async def media_to_us(attacker: Attacker) -> Outcome:
    """A viewer that sends encrypted RTP of all kinds, and broken RTCP, where nothing is expected."""
    async with watching(attacker.http) as viewer:
        has_time, num_sent = attacker.until_end(), 0
        while has_time():
            for _ in range(PACKETS_A_TURN):
                rtp = bytes([0x80, 96 + num_sent % 32]) + num_sent.to_bytes(6, "big")[2:] + bytes(1000)
                rtcp = bytes([0x80 | num_sent % 32, 200 + num_sent % 8, 0, num_sent % 8]) + bytes(28)
                with contextlib.suppress(Exception):  # pylibsrtp refuses some; then the next one
                    await viewer.transport._send_rtp(rtp)
                    await viewer.transport._send_rtp(rtcp)
                num_sent += 1
            await asyncio.sleep(0.002)
        return Outcome(f"{2 * num_sent} sent")


# --- data channels ------------------------------------------------------------------------------------------------


async def endless_message(attacker: Attacker) -> Outcome:
    """A caller whose one message never ends (M7)."""
    return await _sctp_flood(attacker, lambda index: (SCTP_DATA_FIRST_FRAG if index == 0 else 0, 1, b"x" * 1000))


async def many_streams(attacker: Attacker) -> Outcome:
    """A caller that begins a message on each of 65,536 streams."""
    return await _sctp_flood(attacker, lambda index: (SCTP_DATA_FIRST_FRAG, 2 * index % 65536, b"x"))


async def channel_messages(attacker: Attacker) -> Outcome:
    """A caller that sends `session.ping` over its data channel as fast as it can."""
    whole = SCTP_DATA_FIRST_FRAG | SCTP_DATA_LAST_FRAG
    return await _sctp_flood(attacker, lambda index: (whole, 1, b'{"type":"session.ping"}'))


async def _sctp_flood(attacker: Attacker, chunk_of: Any) -> Outcome:
    answers, has_time = Counter[str](), attacker.until_end()
    while has_time():
        try:
            async with watching(attacker.http, "/v1/realtime/calls", channel="events") as caller:
                sctp, index = caller.connection.sctp, 0
                while has_time() and caller.connection.connectionState == "connected":
                    flags, stream_id, user_data = chunk_of(index)
                    chunk = DataChunk(flags)
                    chunk.tsn, chunk.stream_id, chunk.protocol, chunk.user_data = (
                        *(sctp._local_tsn, stream_id),
                        *(51, user_data),
                    )
                    sctp._local_tsn += 1
                    await sctp._send_chunk(chunk)
                    index += 1
                    if index % PACKETS_A_TURN == 0:
                        await asyncio.sleep(0.001)
                answers[f"call, {index // 1000} thousand sent"] += 1
        except (ConnectionError, TimeoutError) as error:
            answers[str(error) or "lost"] += 1
            break  # each call has a stage of its own, and those are bounded elsewhere
    return Outcome(told(answers))


# --- the controller's own offers ----------------------------------------------------------------------------------


async def own_offers(attacker: Attacker) -> Outcome:
    """A controller that sends `webrtc.offer` again and again; each replaces its last peer."""
    connection = new_connection()
    connection.addTransceiver("video", direction="recvonly")
    offer = await offer_of(connection)
    await connection.close()
    has_time, answers = attacker.until_end(), Counter[str]()
    async with attacker.http.ws_connect("/v1/realtime") as controller:
        await controller.send_json({"type": "session.start", "on_preview": "off"})
        await until(controller, "session.created")
        while has_time():
            try:
                await controller.send_json({"type": "webrtc.offer", "sdp": offer})
                answer = await until(controller, "webrtc.answer", "error")
            except ConnectionError:
                answers["closed"] += 1
                break
            answers[answer["error"]["code"] if answer["type"] == "error" else "taken"] += 1
    return Outcome(told(answers))
