"""One session's program: its clock, and the path of each due frame from the stage to the viewers.

Owned by the session. The stage decides each picture. If it was encoded before, `gop_store.py` replays it; else a worker
thread composes and encodes it (`frame_maker.py`, one thread for each program). The fan-out hands the frame to the
viewers' senders, and the pacer times their packets. Runs on the event loop.

Frame k is due at t0 + k / frame_rate. Its picture is chosen half a frame before, so that composing and encoding (about
5 ms, more on a busy machine) are finished when it is due. A frame that is not ready when the next one must be made is
left out and counted. While nobody takes frames, nothing is composed or encoded, but the stage goes on and all receipts
are sent. A viewer that still connects takes no frames: it may be a stranger that never will.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from engine.api import Frames
from server.clock import Clock, MonotonicClock
from server.essential import EssentialTasks
from server.media.program_format import MediaSettings, ProgramFormat
from server.media.sound.audio import AudioProgram, AudioStatistics
from server.media.sound.audio_track import AudioFanout
from server.media.sound.music import Library
from server.media.video.compositor import Compositor
from server.media.video.encoder import KEYFRAME_INTERVAL_S, EncodedFrame, media_time
from server.media.video.fanout import Fanout, Subscription
from server.media.video.frame_maker import FrameMaker, Made, small_jpeg
from server.media.video.gop_store import GopStore
from server.media.video.rendition import Codec, Rendition, ladder
from server.media.webrtc.ice import Ice
from server.media.webrtc.pacer import Pacer
from server.media.webrtc.peer import Peer, Source, ViewerTimeouts
from server.media.webrtc.signalling import Offer, OfferError
from server.stage.picture import FirstShown, OnAir, Picture
from server.stage.stage import Stage

__all__ = ["OfferError", "Program", "ProgramStatistics", "Shown", "ViewerTimeouts"]

logger = logging.getLogger(__name__)

LEAD_FRAMES = 0.5
# A viewer's queue: two keyframe intervals, so that the frames of a viewer fit that joins just before a keyframe.
QUEUE_S = 2.0


@dataclass(frozen=True, slots=True)
class Shown:
    """A preview or a clip is visible for the first time, in the frame that was handed to the viewers' senders."""

    first: FirstShown
    frame_index: int
    sent_at: float  # the program's clock
    composed_s: float  # 0 without viewers and for a replayed picture, as is encoded_s
    encoded_s: float


@dataclass(frozen=True, slots=True)
class ProgramStatistics:
    """Since `open`. Due, sent, late and gaps count only while somebody takes frames."""

    frames_due: int
    frames_sent: int
    frames_late: int  # sent, but after the next one was due
    frames_failed: int  # could not be composed or encoded: the last good picture was sent, or none
    continuous_play_ratio: float  # due frames sent in time, of all due; 1.0 before the first
    max_gap_s: float  # between two sent frames
    max_lateness_s: float  # of a sent frame
    mean_lateness_s: float
    encoded_frames: int  # in all renditions together
    replayed_frames: int  # sent again without encoding, in all renditions together
    compose_s: float  # in total, as is encode_s
    encode_s: float
    bytes_sent: int  # handed to viewers, all together, before packetization
    frames_dropped: int  # for viewers that fell behind
    keyframe_requests: int
    viewers: int
    packet_lateness_p99_s: float  # of all packets of all viewers, against a pacer that is never late


class Program:
    """One program. The callbacks run on the event loop and must return at once."""

    def __init__(
        self,
        program_format: ProgramFormat,
        *,
        clock: Clock | None = None,
        on_shown: Callable[[Shown], None],
        on_changed: Callable[[OnAir, str | None], None],
        on_viewer_lost: Callable[[str], None],
        timeouts: ViewerTimeouts | None = None,
        media: MediaSettings | None = None,
        ice: Ice | None = None,
        music: Library | None = None,
        on_music_failed: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.stage = Stage(program_format.frame_rate)
        self._format = program_format
        self._clock = clock or MonotonicClock()
        self._on_shown = on_shown
        self._on_changed = on_changed
        self._on_viewer_lost = on_viewer_lost
        self._timeouts = timeouts or ViewerTimeouts()
        self._ice = ice or Ice()
        media = media or MediaSettings()
        width, height, bitrate = program_format.width, program_format.height, program_format.bitrate
        self._renditions = {codec: ladder(width, height, bitrate, codec) for codec in Codec}
        self._fanout = Fanout(
            self._renditions[Codec.H264][0], max_queued_frames=max(8, round(QUEUE_S * program_format.frame_rate))
        )
        self._pacer = Pacer(self._clock)
        self._audio = AudioProgram(music or Library(), clock=self._clock, on_failed=on_music_failed)
        self._gops: dict[Rendition, GopStore] = {}
        self._compositor = Compositor(width, height, program_format.frame_rate, has_marker=program_format.marker)
        self._frame_maker = FrameMaker(self._compositor, program_format.frame_rate, h264_encoder=media.h264_encoder)
        self._uses_stock_sender = media.uses_stock_sender
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="program")
        self._peers: dict[str, Peer] = {}
        self._watchers: set[Subscription] = set()
        self._closings: set[asyncio.Task[None]] = set()
        self._essential = EssentialTasks()
        self._run_task: asyncio.Task[None] | None = None
        self._pacer_task: asyncio.Task[None] | None = None
        self._is_closed = False
        self._started_at = 0.0
        self._on_air = self.stage.on_air
        self._counts = _Counts()

    # --- life -----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Start the program's clock: frame 0 is due now."""
        if self._run_task is not None or self._is_closed:
            raise RuntimeError("a program is opened once")
        self._started_at = self._clock.now()
        self._audio.open(self._started_at)
        self._run_task = self._essential.start(self._run(), "program")
        self._pacer_task = self._essential.start(self._pacer.run(), "pacer")

    async def close(self) -> None:
        """End the program and wait until its viewers' sockets, its tasks and its thread are gone. Idempotent.

        All viewers have `ViewerTimeouts.close_s` together. Whatever they do, the rest is closed.
        """
        self._is_closed = True
        self._essential.expect_end()
        if self._run_task is not None:
            self._run_task.cancel()
            await asyncio.gather(self._run_task, return_exceptions=True)
        closings = [self._close_peer(peer) for peer in list(self._peers.values())]
        for error in await asyncio.gather(*closings, *self._closings, return_exceptions=True):
            if isinstance(error, Exception):
                logger.error("! a viewer could not be closed", exc_info=error)
        self._fanout.close()
        await self._audio.close()
        self._watchers.clear()
        if self._pacer_task is not None:
            self._pacer_task.cancel()
            await asyncio.gather(self._pacer_task, return_exceptions=True)
        self._thread.shutdown(wait=True)  # at most the one frame that was being made

    @property
    def dead_task(self) -> str | None:
        """The name of a task that has died, if one has: without both tasks, nothing is sent any more."""
        return self._essential.dead

    # --- viewers --------------------------------------------------------------------------------------------------

    @property
    def num_viewers(self) -> int:
        """Viewers and pushes whose connection stands."""
        return sum(peer.is_watching for peer in self._peers.values()) + len(self._watchers)

    def is_watching(self, viewer_id: str) -> bool:
        peer = self._peers.get(viewer_id)
        return peer is not None and peer.is_watching

    async def add_viewer(
        self,
        offer: str | Offer,
        *,
        on_channel: Callable[[Any], None] | None = None,
        on_watching: Callable[[str], bool] = lambda viewer_id: True,
    ) -> tuple[str, str]:
        """Answer a viewer's offer, which a door may have parsed already: (viewer_id, answer).

        Raises `OfferError`, and leaves nothing behind then.

        `on_channel` gets each `RTCDataChannel` that the viewer opens. `on_watching` is called when its connection
        stands, with its id, and says whether it may stay.
        """
        if self._is_closed:
            raise RuntimeError("the program is closed")
        peer = self._new_peer(on_channel, on_watching)
        try:
            return peer.viewer_id, await peer.open(offer)
        except BaseException:
            self._peers.pop(peer.viewer_id, None)
            raise

    def new_publisher(self) -> Peer:
        """A peer that sends the offer instead of answering one: `whip` connects it. End it by `remove_viewer`."""
        if self._is_closed:
            raise RuntimeError("the program is closed")
        return self._new_peer()

    def _new_peer(
        self,
        on_channel: Callable[[Any], None] | None = None,
        on_watching: Callable[[str], bool] = lambda viewer_id: True,
    ) -> Peer:
        source = Source(
            self._fanout, self._pacer, self._renditions, self._started_at, self._uses_stock_sender, self._audio.fanout
        )
        peer = Peer(
            f"viewer_{secrets.token_hex(6)}",
            source,
            clock=self._clock,
            timeouts=self._timeouts,
            on_lost=self._lose,
            on_channel=on_channel,
            on_watching=on_watching,
            ice=self._ice,
        )
        self._peers[peer.viewer_id] = peer
        return peer

    async def add_candidate(
        self, viewer_id: str, candidate: str, sdp_mid: str | None, sdp_mline_index: int | None
    ) -> None:
        """Add a trickled candidate. Does nothing for a viewer that is gone already. Raises `OfferError`."""
        if peer := self._peers.get(viewer_id):
            await peer.add_candidate(candidate, sdp_mid, sdp_mline_index)

    async def remove_viewer(self, viewer_id: str) -> None:
        """Close a viewer's connection. Does nothing for a viewer that is gone already."""
        if peer := self._peers.get(viewer_id):
            await self._close_peer(peer)

    def drop_viewer(self, viewer_id: str) -> None:
        """As if a viewer were lost: closed in the background, then reported. Nothing for one that is gone already."""
        if peer := self._peers.get(viewer_id):
            peer.lose("dropped")

    def watch(self) -> Subscription:
        """The program's frames for a viewer without a peer, which counts as a viewer until `leave`."""
        subscription = self._subscribed(is_viewer=True)
        self._watchers.add(subscription)
        return subscription

    def record(self) -> Subscription:
        """The same for a file: the program is composed and encoded for it, but it is not counted as a viewer."""
        return self._subscribed(is_viewer=False)

    def leave(self, subscription: Subscription) -> None:
        """End what `watch` or `record` gave. Idempotent."""
        self._watchers.discard(subscription)
        subscription.close()

    def _subscribed(self, *, is_viewer: bool) -> Subscription:
        if self._is_closed:
            raise RuntimeError("the program is closed")
        return self._fanout.subscribe(is_viewer=is_viewer)

    def rtp_timestamp(self, viewer_id: str, frame_index: int) -> int | None:
        """A frame's RTP timestamp at a viewer; None for an unknown viewer, or before its first packet."""
        peer = self._peers.get(viewer_id)
        return None if peer is None else peer.rtp_timestamp(media_time(frame_index, self._format.frame_rate))

    # --- the sound ------------------------------------------------------------------------------------------------

    def play(self, music: str | None, volume: float) -> None:
        """Fade to this music (a name in the library), or to silence; `volume` is a factor, 0 to 1."""
        self._audio.play(music, volume)

    @property
    def sound(self) -> AudioFanout:
        """For listeners without a peer."""
        return self._audio.fanout

    def audio_statistics(self) -> AudioStatistics:
        return self._audio.statistics()

    # --- statistics and single pictures ---------------------------------------------------------------------------

    def statistics(self) -> ProgramStatistics:
        counts, fanout = self._counts, self._fanout.statistics()
        return ProgramStatistics(
            frames_due=counts.due,
            frames_sent=counts.sent,
            frames_late=counts.late,
            frames_failed=counts.failed,
            continuous_play_ratio=(counts.sent - counts.late) / counts.due if counts.due else 1.0,
            max_gap_s=counts.max_gap_s,
            max_lateness_s=counts.max_lateness_s,
            mean_lateness_s=counts.lateness_s / counts.sent if counts.sent else 0.0,
            encoded_frames=counts.encoded,
            replayed_frames=counts.replayed,
            compose_s=counts.compose_s,
            encode_s=counts.encode_s,
            bytes_sent=fanout.bytes_queued_for_viewers,
            frames_dropped=fanout.frames_dropped,
            keyframe_requests=fanout.keyframe_requests,
            viewers=self.num_viewers,
            packet_lateness_p99_s=self._pacer.lateness.quantile_s(0.99),
        )

    def picture_on_air(self, width: int, height: int) -> Frames:
        """The last frame that was shown, or ran below a blank, in this size and without a marker.

        Composed again on the event loop: 1 to 3 ms, once for a morph.
        """
        picture = Picture(self.stage.layers)
        planes = Compositor(width, height, self._format.frame_rate).compose(picture, 0)
        return Frames(planes[None].copy())  # a copy: the compositor may hand out the clip's own memory

    def jpeg(self, frames: Frames) -> bytes:
        """A small JPEG of the first frame. Touches nothing of the program, so any thread may call it."""
        return small_jpeg(frames)

    # --- the clock loop -------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        frame_index = 0
        while True:
            await self._clock.sleep_until(self._due_at(frame_index - LEAD_FRAMES))
            latest = int((self._clock.now() - self._started_at) * self._format.frame_rate + LEAD_FRAMES)
            skipped, frame_index = max(0, latest - frame_index), max(latest, frame_index)
            try:
                await self._play(frame_index, skipped)
            except Exception:
                # Task boundary: the program goes on after a failed frame or callback.
                logger.exception("! frame %d failed", frame_index)
                self._counts.failed += 1
            frame_index += 1

    async def _play(self, frame_index: int, skipped: int) -> None:
        """Make a frame, send it when it is due, and report what it is the first to show."""
        picture = self.stage.picture(frame_index)
        is_owed = self._fanout.num_takers > 0
        # The first frame of all opens the encoder, which may take longer than a frame: while the first viewer connects.
        is_cold = self._counts.encoded == 0 and bool(self._peers)
        made = await self._make(picture, frame_index, skipped) if is_owed or is_cold else None
        await self._clock.sleep_until(self._due_at(frame_index))
        if made is None:
            self._forget()
        else:
            self._send(made)
        if made is not None and is_owed:
            self._count(made, frame_index, skipped)
        else:
            self._counts.sent_at = None
        self._report(picture, frame_index, made)
        if frame_index % self._format.frame_rate == 0:
            for peer in list(self._peers.values()):
                peer.check_alive()
                peer.send_report()

    async def _make(self, picture: Picture, frame_index: int, skipped: int) -> Made:
        """The frame in every rendition in use, replayed or encoded now."""
        identity = self._compositor.identity(picture)
        frames: dict[Rendition, EncodedFrame] = {}
        to_encode: dict[Rendition, bool] = {}
        wanted = self._fanout.wanted or [self._fanout.best]
        for rendition in wanted:
            gops = self._gops.setdefault(rendition, self._new_gop_store())
            if skipped:
                gops.skip()
            wants_keyframe = self._fanout.next_is_keyframe(self._clock.now(), rendition) or picture.is_cut
            kept = gops.replay(identity, wants_keyframe=wants_keyframe)
            if kept is not None:
                frames[rendition] = kept.again_at(frame_index, media_time(frame_index, self._format.frame_rate))
            else:
                to_encode[rendition] = wants_keyframe or gops.next_is_keyframe
        for rendition in self._gops.keys() - set(wanted):
            self._gops[rendition].interrupt()
        self._counts.replayed += len(frames)
        if not to_encode:
            return Made(frames)
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._thread, self._frame_maker.make, picture, frame_index, to_encode)
        self._counts.add(made)
        for rendition in to_encode:
            if rendition in made.frames:
                self._gops[rendition].record(identity if made.num_failures == 0 else None, made.frames[rendition])
            else:
                self._gops[rendition].interrupt()
        return Made(frames | dict(made.frames), made.composed_s, made.encoded_s, made.num_failures)

    def _new_gop_store(self) -> GopStore:
        return GopStore(max(1, round(KEYFRAME_INTERVAL_S * self._format.frame_rate)))

    def _forget(self) -> None:
        self._fanout.forget()
        for gops in self._gops.values():
            gops.interrupt()

    def _send(self, made: Made) -> None:
        self._fanout.put(made.frames)
        self._pacer.round()

    def _count(self, made: Made, frame_index: int, skipped: int) -> None:
        self._counts.due += 1 + skipped
        if made.frames:
            self._counts.count_sent(self._clock.now(), self._due_at(frame_index), 1 / self._format.frame_rate)

    def _report(self, picture: Picture, frame_index: int, made: Made | None) -> None:
        on_air = self.stage.on_air
        if on_air != self._on_air:
            self._on_air = on_air
            self._audio.blank(on_air[0] is OnAir.BLANK)
            self._on_changed(*on_air)
        for first in picture.first_shown:
            composed_s, encoded_s = (made.composed_s, made.encoded_s) if made else (0.0, 0.0)
            self._on_shown(Shown(first, frame_index, self._clock.now(), composed_s, encoded_s))

    def _due_at(self, frame_index: float) -> float:
        return self._started_at + frame_index / self._format.frame_rate

    # --- viewers that end -----------------------------------------------------------------------------------------

    def _lose(self, peer: Peer, reason: str) -> None:
        """A viewer is lost: close its peer, and report it."""
        logger.info("x %s lost: %s", peer.viewer_id, reason)
        closing = asyncio.create_task(self._close_lost(peer), name=f"close {peer.viewer_id}")
        self._closings.add(closing)
        closing.add_done_callback(self._closings.discard)

    async def _close_lost(self, peer: Peer) -> None:
        was_viewer = peer.viewer_id in self._peers
        try:
            await self._close_peer(peer)
            if was_viewer:
                self._on_viewer_lost(peer.viewer_id)
        except Exception:  # task boundary: nobody awaits this task until the program closes
            logger.exception("! %s could not be closed", peer.viewer_id)

    async def _close_peer(self, peer: Peer) -> None:
        self._peers.pop(peer.viewer_id, None)
        await peer.close()


@dataclass(slots=True)
class _Counts:
    due: int = 0
    sent: int = 0
    late: int = 0
    failed: int = 0
    encoded: int = 0
    replayed: int = 0
    compose_s: float = 0.0
    encode_s: float = 0.0
    lateness_s: float = 0.0
    max_lateness_s: float = 0.0
    max_gap_s: float = 0.0
    sent_at: float | None = None  # of the last frame, while there are viewers

    def add(self, made: Made) -> None:
        self.encoded += len(made.frames)
        self.failed += made.num_failures
        self.compose_s += made.composed_s
        self.encode_s += made.encoded_s

    def count_sent(self, sent_at: float, due_at: float, frame_s: float) -> None:
        lateness_s = max(0.0, sent_at - due_at)
        self.sent += 1
        self.late += lateness_s >= frame_s
        self.lateness_s += lateness_s
        self.max_lateness_s = max(self.max_lateness_s, lateness_s)
        if self.sent_at is not None:
            self.max_gap_s = max(self.max_gap_s, sent_at - self.sent_at)
        self.sent_at = sent_at
