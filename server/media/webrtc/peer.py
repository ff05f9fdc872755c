"""One viewer: its WebRTC connection, the sender that feeds it, and the detection of its loss.

Made by `server.media.program` from an offer. Runs on the event loop. aiortc (pinned to 1.16.0) does ICE and DTLS;
`sender.py` does RTP, `data_channels.py` bounds what a caller sends. Two private names are used, and a test checks both:
`RTCRtpTransceiver.__sender` takes our sender, `RTCRtpReceiver._enabled` turns receiving off. The plain twin, aiortc's
own sender fed with ready packets, is in `stock_sender.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aiortc import RTCDataChannel, RTCPeerConnection, RTCSessionDescription

from server.clock import Clock
from server.media.sound import audio_track
from server.media.sound.audio_track import AudioFanout, AudioTrack
from server.media.video.fanout import Fanout
from server.media.video.rendition import Codec, Rendition
from server.media.webrtc import signalling
from server.media.webrtc.addresses import is_public
from server.media.webrtc.data_channels import bound_received
from server.media.webrtc.ice import Ice, abandon
from server.media.webrtc.pacer import Pacer
from server.media.webrtc.sender import RtpSender
from server.media.webrtc.signalling import Answer, Offer, OfferError
from server.media.webrtc.stock_sender import StockSending

logger = logging.getLogger(__name__)

_SENDER = "_RTCRtpTransceiver__sender"


@dataclass(frozen=True, slots=True)
class ViewerTimeouts:
    """When a viewer counts as gone. aiortc itself notices a killed browser after 29 s."""

    connect_s: float = 5.0  # from the offer until media can flow
    silence_s: float = 5.0  # without any RTCP; browsers send a report at least every second
    close_s: float = 1.0  # for taking the connection down, of one viewer and of all together


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


@dataclass(frozen=True, slots=True)
class Source:
    """What a program gives to its viewers' peers."""

    fanout: Fanout
    pacer: Pacer
    renditions: Mapping[Codec, Sequence[Rendition]]  # by codec, best first
    started_at: float  # the program's clock at its media time 0
    uses_stock_sender: bool = False  # aiortc's own, without adaptation: the plain twin of `sender.py`
    audio: AudioFanout | None = None


class Peer:
    """One viewer's connection, from its offer to its end. `on_lost` is called at most once, with the reason.

    `on_watching` is called when media can flow, with the id, and says whether the viewer may stay. Without
    `on_channel`, the answer rejects data channels.
    """

    def __init__(
        self,
        viewer_id: str,
        source: Source,
        *,
        clock: Clock,
        timeouts: ViewerTimeouts,
        on_lost: Callable[[Peer, str], None],
        on_channel: Callable[[RTCDataChannel], None] | None = None,
        on_watching: Callable[[str], bool] = lambda viewer_id: True,
        ice: Ice | None = None,
    ) -> None:
        self.viewer_id = viewer_id
        self._source = source
        self._clock = clock
        self._timeouts = timeouts
        self._on_lost = on_lost
        self._on_watching = on_watching
        self._takes_channel = on_channel is not None
        self._state = PeerState.NEW
        self._is_lost = False
        self._heard_at = clock.now()
        self._num_candidates = self._num_private_candidates = 0
        self._ice = ice or Ice()
        self._connection = self._ice.connection()
        if on_channel is not None:
            self._connection.on("datachannel", on_channel)
        self._sending: RtpSender | StockSending | None = None
        self._audio_track: AudioTrack | None = None
        self._turned = asyncio.Event()
        self.lost_reason: str | None = None

    @property
    def state(self) -> PeerState:
        return self._state

    @property
    def is_watching(self) -> bool:
        return self._state is PeerState.WATCHING

    async def open(self, offer: str | Offer) -> str:
        """Answer an offer, which a door may have parsed already.

        Raises `OfferError`. Then, and when cancelled, nothing is left open.
        """
        try:
            if not isinstance(offer, Offer):
                offer = signalling.checked_offer(offer, self._ice.takes, takes_channel=self._takes_channel)
            self._move(PeerState.CONNECTING)
            return await self._negotiate(offer)
        except OfferError:
            await self.close()
            raise
        except asyncio.CancelledError:
            await self.close()
            raise
        except Exception as error:  # any error of aiortc counts as a fault of the offer
            logger.info("! offer refused by aiortc", exc_info=True)
            await self.close()
            raise OfferError("invalid_sdp", f"the offer cannot be answered ({type(error).__name__})") from error

    async def offer(self, *, with_audio: bool) -> str:
        """Our own offer, to publish, with all candidates. The caller closes the peer in any case."""
        connection = self._connection
        self._sending = self._new_sending(connection, Codec.H264)
        if with_audio and self._source.audio is not None:
            self._audio_track = audio_track.add_audio(connection, self._source.audio)
        connection.on("connectionstatechange", self._on_connection_state)
        await connection.setLocalDescription(await connection.createOffer())
        return self._ice.advertised(connection.localDescription.sdp)

    async def accept(self, answer: Answer) -> None:
        """The answer to our offer. Raises `OfferError`."""
        self._move(PeerState.CONNECTING)
        self._heard_at = self._clock.now()
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(answer.sdp, "answer"))
            self._refuse_to_receive()
        except OfferError:
            raise
        except Exception as error:  # as in `open`
            logger.info("! answer refused by aiortc", exc_info=True)
            raise OfferError("invalid_sdp", f"the answer cannot be used ({type(error).__name__})") from error

    async def until_watching(self) -> bool:
        """Wait until media can flow; False if it never will."""
        while self._state is PeerState.CONNECTING and not self._is_lost:
            await self._turn()
        return self._state is PeerState.WATCHING and not self._is_lost

    async def until_lost(self) -> None:
        """Wait until the viewer is gone; `lost_reason` says why, unless we closed it."""
        while not self._is_lost:
            await self._turn()

    async def add_candidate(self, candidate: str, sdp_mid: str | None, sdp_mline_index: int | None) -> None:
        """Add a trickled candidate, if it is one we use. Raises `OfferError`."""
        parsed = signalling.parsed_candidate(candidate, sdp_mid, sdp_mline_index, self._ice.takes)
        if parsed is None or self._state is PeerState.CLOSED or self._num_candidates >= signalling.MAX_CANDIDATES:
            return
        if not is_public(parsed.ip):
            if self._num_private_candidates >= signalling.MAX_PRIVATE_CANDIDATES:
                return
            self._num_private_candidates += 1
        self._num_candidates += 1
        try:
            await self._connection.addIceCandidate(parsed)
        except ValueError as error:
            raise OfferError("invalid_sdp", f"the candidate cannot be used: {error}") from error

    async def close(self) -> None:
        """Take the connection down and wait until its tasks and sockets are gone, `close_s` at most. Idempotent."""
        self._is_lost = True  # from here on we end it, so `on_lost` is not called
        if self._state is not PeerState.CLOSED:
            self._move(PeerState.CLOSED)
        self._turned.set()
        if self._sending is not None:
            await self._sending.stop()
        if self._audio_track is not None:
            self._audio_track.stop()
        closing = asyncio.create_task(self._connection.close())
        await asyncio.wait([closing], timeout=self._timeouts.close_s)  # aioice may swallow a cancellation
        error = closing.exception() if closing.done() else TimeoutError()
        if error is None:
            return
        # Whatever happened, the sockets must go.
        logger.error("! viewer %s: its connection did not close", self.viewer_id, exc_info=error)
        closing.cancel()
        abandon(self._connection)

    def lose(self, reason: str) -> None:
        """The viewer is gone, or has to go. Does nothing the second time, and after `close`."""
        if not self._is_lost:
            self._is_lost = True
            self.lost_reason = reason
            self._turned.set()
            self._on_lost(self, reason)

    def check_alive(self) -> None:
        """Loses a viewer that did not connect or fell silent. Called about once a second."""
        silent_s = self._clock.now() - self._heard_at
        if self._state is PeerState.CONNECTING and silent_s > self._timeouts.connect_s:
            self.lose("connect_timeout")
        if self._state is PeerState.WATCHING and silent_s > self._timeouts.silence_s:
            self.lose("silent")

    def send_report(self) -> None:
        """Called about once a second; aiortc's own sender has a timer of its own."""
        if isinstance(self._sending, RtpSender):
            self._sending.send_report()

    def rtp_timestamp(self, media_time: int) -> int | None:
        """What a frame's RTP timestamp is for this viewer; None while that is not known."""
        return None if self._sending is None else self._sending.rtp_timestamp(media_time)

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _negotiate(self, offer: Offer) -> str:
        connection = self._connection
        self._sending = self._new_sending(connection, offer.codec)
        if self._source.audio is not None and offer.wants_audio:
            self._audio_track = audio_track.add_audio(connection, self._source.audio)
        connection.on("connectionstatechange", self._on_connection_state)
        await connection.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
        self._refuse_to_receive()
        if connection.sctp is not None:
            bound_received(connection.sctp, self.lose)
        await connection.setLocalDescription()
        return offer.answered(self._ice.advertised(connection.localDescription.sdp))

    def _refuse_to_receive(self) -> None:
        """A second check, because `signalling` lets no viewer send. aiortc would decode received video into a queue
        that nothing empties: one still picture, sent over and over, was 90 MB/s."""
        for transceiver in self._connection.getTransceivers():
            receiver: Any = transceiver.receiver
            receiver._enabled = False
            if receiver.track is not None:
                raise OfferError("invalid_sdp", "expected no media from the other side: we only send")

    def _new_sending(self, connection: RTCPeerConnection, codec: Codec) -> RtpSender | StockSending:
        source = self._source
        sending: RtpSender | StockSending
        if source.uses_stock_sender:
            sending = StockSending(
                source.fanout,
                source.renditions[codec][0],
                clock=self._clock,
                on_heard=self._hear,
                on_ended=self.lose,
            )
            transceiver = connection.addTransceiver(sending.track, direction="sendonly")
            sending.hook(transceiver.sender)
        else:
            transceiver = connection.addTransceiver("video", direction="sendonly")
            sending = RtpSender(
                transceiver.sender,
                source.fanout,
                source.pacer,
                renditions=source.renditions[codec],
                clock=self._clock,
                started_at=source.started_at,
                on_heard=self._hear,
                on_ended=self.lose,
            )
            setattr(transceiver, _SENDER, sending)
        transceiver.setCodecPreferences(signalling.preferred_codecs(codec))  # before the offer: ignored later
        return sending

    def _hear(self) -> None:
        self._heard_at = self._clock.now()

    def _on_connection_state(self) -> None:
        match self._connection.connectionState:
            case "connected" if self._state is PeerState.CONNECTING:
                self._heard_at = self._clock.now()
                self._move(PeerState.WATCHING)
                if not self._on_watching(self.viewer_id):
                    self.lose("no_place")
            case "failed" | "closed" as state:
                self.lose(f"connection_{state}")

    def _move(self, state: PeerState) -> None:
        if state not in _NEXT[self._state]:
            raise RuntimeError(f"a viewer cannot go from {self._state} to {state}")
        self._state = state
        self._turned.set()

    async def _turn(self) -> None:
        self._turned.clear()
        await self._turned.wait()
