"""One viewer: its WebRTC connection, the track that feeds it, and noticing that it is gone.

Made by `server.media.program` from an offer; takes packets from `fanout`. Runs on the event loop.

aiortc (pinned to 1.16.0) does ICE, DTLS, SRTP, packetization and retransmission. Three things it does not offer are
reached for by private names, all of them here, each with a test in `tests/server/media/test_peer.py`:

* `RTCRtpSender._send_keyframe` is replaced: with ready packets, a viewer's PLI and FIR would not reach us.
* `RTCRtpSender._handle_rtcp_packet` is wrapped, to know when the viewer was last heard of.
* `RTCRtpSender.__rtp_timestamp` is read, to learn the random origin of the RTP timestamps.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import av
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from server.clock import Clock
from server.media import signalling
from server.media.encoder import EncodedFrame
from server.media.fanout import Fanout, Subscription, SubscriptionClosed
from server.media.signalling import OfferError

logger = logging.getLogger(__name__)

_RTP_TIMESTAMP = "_RTCRtpSender__rtp_timestamp"

# Between frames that waited: a second's worth takes a tenth of a second, at 20 Mbit/s for a program of 2 Mbit/s.
BACKLOG_INTERVAL_S = 0.004


@dataclass(frozen=True, slots=True)
class ViewerTimeouts:
    """When a viewer counts as gone. aiortc itself notices a killed browser after 29 s."""

    connect_s: float = 10.0  # from the offer until media can flow
    silence_s: float = 5.0  # without any RTCP; browsers send a report at least every second
    close_s: float = 5.0  # for taking the connection down


class PeerState(StrEnum):
    NEW = "new"
    CONNECTING = "connecting"
    WATCHING = "watching"
    CLOSED = "closed"


_NEXT = {
    PeerState.NEW: {PeerState.CONNECTING, PeerState.CLOSED},
    PeerState.CONNECTING: {PeerState.WATCHING, PeerState.CLOSED},
    PeerState.WATCHING: {PeerState.CLOSED},
    PeerState.CLOSED: set[PeerState](),
}


class ViewerTrack(MediaStreamTrack):
    """The program's ready packets as a track for one aiortc sender.

    Live frames go as they come. Frames that wait in the queue (a viewer joins: up to a second of them) are spaced out:
    sent in one go, 250 KB would overrun the buffers on the way.

    aiortc ends a sender without a word when its track raises; `on_ended` is called with the reason instead.
    """

    kind = "video"

    def __init__(
        self,
        subscribe: Callable[[], Subscription],
        *,
        clock: Clock,
        on_sent: Callable[[EncodedFrame], None],
        on_ended: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._subscribe = subscribe
        self._clock = clock
        self._on_sent = on_sent
        self._on_ended = on_ended
        self._subscription: Subscription | None = None
        self._last: EncodedFrame | None = None

    async def recv(self) -> av.Packet[Any]:
        """The next packet. Being asked for one means that the last is on the wire: the sender is one loop."""
        try:
            if self._last is not None:
                self._on_sent(self._last)
            # Only when media can flow: what a queue would have held during the handshake is old by then.
            if self._subscription is None:
                self._subscription = self._subscribe()
            elif self._subscription.num_queued:
                await self._clock.sleep_until(self._clock.now() + BACKLOG_INTERVAL_S)
            self._last = await self._subscription.next()
            return self._last.packet
        except SubscriptionClosed:
            raise MediaStreamError from None
        except Exception:
            # Task boundary: this runs inside aiortc's sender task, which would end silently.
            logger.exception("! viewer track failed")
            self.stop()
            raise MediaStreamError from None

    def stop(self) -> None:
        """Called by us when the viewer is closed, and by aiortc's sender when its loop ends for whatever reason."""
        super().stop()
        if self._subscription is not None:
            self._subscription.close()
        self._on_ended("sender_ended")


class Peer:
    """One viewer's connection, from its offer to its end. `on_lost` is called at most once, with the reason."""

    def __init__(
        self,
        viewer_id: str,
        fanout: Fanout,
        *,
        clock: Clock,
        timeouts: ViewerTimeouts,
        on_lost: Callable[[Peer, str], None],
    ) -> None:
        self.viewer_id = viewer_id
        self._fanout = fanout
        self._clock = clock
        self._timeouts = timeouts
        self._on_lost = on_lost
        self._state = PeerState.NEW
        self._is_lost = False
        self._heard_at = clock.now()
        self._timestamp_origin: int | None = None
        self._num_candidates = 0
        # Explicitly none: left unset, aiortc asks a public STUN server, and a dead one costs 5 s.
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._track = ViewerTrack(fanout.subscribe, clock=clock, on_sent=self._learn_origin, on_ended=self._lose)
        self._sender: RTCRtpSender | None = None

    @property
    def state(self) -> PeerState:
        return self._state

    @property
    def is_watching(self) -> bool:
        return self._state is PeerState.WATCHING

    async def open(self, offer_sdp: str) -> str:
        """Answer an offer. Raises `OfferError`; then, and when cancelled, nothing is left open."""
        try:
            offer = signalling.checked_offer(offer_sdp)
            self._move(PeerState.CONNECTING)
            return await self._negotiate(offer)
        except OfferError:
            await self.close()
            raise
        except asyncio.CancelledError:
            await self.close()
            raise
        except Exception as error:  # whatever aiortc trips over in an offer that looked right is the offer's fault
            logger.info("! offer refused by aiortc", exc_info=True)
            await self.close()
            raise OfferError("invalid_sdp", f"the offer cannot be answered ({type(error).__name__})") from error

    async def add_candidate(self, candidate: str, sdp_mid: str | None, sdp_mline_index: int | None) -> None:
        """Add a trickled candidate, if it is one we use. Raises `OfferError`."""
        parsed = signalling.parsed_candidate(candidate, sdp_mid, sdp_mline_index)
        if parsed is None or self._state is PeerState.CLOSED or self._num_candidates >= signalling.MAX_CANDIDATES:
            return
        self._num_candidates += 1
        try:
            await self._connection.addIceCandidate(parsed)
        except ValueError as error:
            raise OfferError("invalid_sdp", f"the candidate cannot be used: {error}") from error

    async def close(self) -> None:
        """Take the connection down and wait until its tasks and sockets are gone. Idempotent."""
        self._is_lost = True  # from here on it ends because we say so
        if self._state is not PeerState.CLOSED:
            self._move(PeerState.CLOSED)
        self._track.stop()
        try:
            async with asyncio.timeout(self._timeouts.close_s):
                await self._connection.close()
        except TimeoutError:
            logger.error("! viewer %s: its connection did not close in time", self.viewer_id)

    def check_alive(self) -> None:
        """Called once in a while: a viewer that never connected, or fell silent, is lost."""
        silent_s = self._clock.now() - self._heard_at
        if self._state is PeerState.CONNECTING and silent_s > self._timeouts.connect_s:
            self._lose("connect_timeout")
        if self._state is PeerState.WATCHING and silent_s > self._timeouts.silence_s:
            self._lose("silent")

    def rtp_timestamp(self, media_time: int) -> int | None:
        """What a frame's RTP timestamp is for this viewer; None until its first packet went out."""
        if self._timestamp_origin is None:
            return None
        return (self._timestamp_origin + media_time) & 0xFFFFFFFF

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _negotiate(self, offer: str) -> str:
        connection = self._connection
        transceiver = connection.addTransceiver(self._track, direction="sendonly")
        transceiver.setCodecPreferences(signalling.preferred_codecs())  # before the offer: aiortc ignores it later
        self._sender = transceiver.sender
        self._hook(transceiver.sender)
        connection.on("connectionstatechange", self._on_connection_state)
        await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await connection.setLocalDescription()
        return connection.localDescription.sdp

    def _hook(self, sender: Any) -> None:
        handle_rtcp = sender._handle_rtcp_packet

        async def heard(packet: object) -> None:
            self._heard_at = self._clock.now()
            await handle_rtcp(packet)

        sender._handle_rtcp_packet = heard
        sender._send_keyframe = self._fanout.request_keyframe

    def _on_connection_state(self) -> None:
        match self._connection.connectionState:
            case "connected" if self._state is PeerState.CONNECTING:
                self._heard_at = self._clock.now()
                self._move(PeerState.WATCHING)
            case "failed" | "closed" as state:
                self._lose(f"connection_{state}")

    def _learn_origin(self, frame: EncodedFrame) -> None:
        """After a frame is on the wire its RTP timestamp is the sender's last; the difference is the origin."""
        if self._timestamp_origin is None:
            last_timestamp: int = getattr(self._sender, _RTP_TIMESTAMP)
            assert frame.packet.pts is not None
            self._timestamp_origin = (last_timestamp - frame.packet.pts) & 0xFFFFFFFF

    def _lose(self, reason: str) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._on_lost(self, reason)

    def _move(self, state: PeerState) -> None:
        if state not in _NEXT[self._state]:
            raise RuntimeError(f"a viewer cannot go from {self._state} to {state}")
        self._state = state
