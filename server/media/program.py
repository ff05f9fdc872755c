"""One session's program: its clock, and the way of each due frame from the stage to the viewers.

Owned by the session. The stage says what is due, the worker thread (one for each program) composes and encodes it,
the fan-out hands it to the viewers. Runs on the event loop; the compositor and the encoder live in the thread alone.

Frame k is due at t0 + k / frame_rate. Its picture is fixed half a frame before, so that composing and encoding (about
5 ms, more on a busy machine) are over when it is due; a prompt waits no longer for it than for the frame itself. A
frame that is not ready when the next one is to be made is left out, and counted. Without viewers nothing is composed
or encoded, but the stage goes on and receipts come as if.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation

from engine.api import Frames
from server.clock import Clock, MonotonicClock
from server.media.compositor import Compositor
from server.media.encoder import EncodedFrame, Encoder, media_time
from server.media.fanout import Fanout
from server.media.peer import Peer, ViewerTimeouts
from server.media.signalling import OfferError
from server.stage import FirstShown, OnAir, Picture, Stage

__all__ = ["OfferError", "Program", "ProgramFormat", "ProgramStatistics", "Shown", "ViewerTimeouts"]

logger = logging.getLogger(__name__)

LEAD_FRAMES = 0.5
# A viewer's queue: two rounds of keyframes, so that one fits that joins just before the next.
QUEUE_S = 2.0
JPEG_MAX_WIDTH = 256
JPEG_MIN_WIDTH = 128


@dataclass(frozen=True, slots=True)
class ProgramFormat:
    """What goes out. `bitrate` is a ceiling in bits per second; `marker` paints the frame index into the picture."""

    width: int = 832
    height: int = 480
    frame_rate: int = 24
    bitrate: int = 2_000_000
    marker: bool = False

    def __post_init__(self) -> None:
        if self.width < 128 or self.height < 128 or self.width % 2 or self.height % 2:
            raise ValueError(f"expected even sides of at least 128 px, got {self.width}x{self.height}")
        if not 1 <= self.frame_rate <= 60 or self.bitrate < 50_000:
            raise ValueError(f"expected 1 to 60 frames/s and 50 kbit/s, got {self.frame_rate} and {self.bitrate}")


@dataclass(frozen=True, slots=True)
class Shown:
    """A preview or a clip is visible for the first time, in the frame that was handed to the viewers' senders."""

    first: FirstShown
    frame_index: int
    sent_at: float  # the program's clock
    composed_s: float  # 0 without viewers, as is encoded_s
    encoded_s: float


@dataclass(frozen=True, slots=True)
class ProgramStatistics:
    """Since `open`. Due, sent, late and gaps count only while a viewer is there."""

    frames_due: int
    frames_sent: int
    frames_late: int  # sent, but after the next one was due
    frames_failed: int  # could not be composed or encoded: the last good picture was sent, or none
    continuous_play_ratio: float  # due frames sent in time, of all due; 1.0 before the first
    max_gap_s: float  # between two sent frames
    max_lateness_s: float  # of a sent frame
    mean_lateness_s: float
    encoded_frames: int
    compose_s: float  # in total, as is encode_s
    encode_s: float
    bytes_sent: int  # handed to viewers, all together, before packetization
    frames_dropped: int  # for viewers that fell behind
    keyframe_requests: int
    viewers: int


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
    ) -> None:
        self.stage = Stage(program_format.frame_rate)
        self._format = program_format
        self._clock = clock or MonotonicClock()
        self._on_shown = on_shown
        self._on_changed = on_changed
        self._on_viewer_lost = on_viewer_lost
        self._timeouts = timeouts or ViewerTimeouts()
        self._fanout = Fanout(max_queued_frames=max(8, round(QUEUE_S * program_format.frame_rate)))
        self._studio = _Studio(program_format)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="program")
        self._peers: dict[str, Peer] = {}
        self._closings: set[asyncio.Task[None]] = set()
        self._run_task: asyncio.Task[None] | None = None
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
        self._run_task = asyncio.create_task(self._run(), name="program")

    async def close(self) -> None:
        """End the program and wait until its viewers' sockets, its tasks and its thread are gone. Idempotent."""
        self._is_closed = True
        if self._run_task is not None:
            self._run_task.cancel()
            await asyncio.gather(self._run_task, return_exceptions=True)
        await asyncio.gather(*(self._close_peer(peer) for peer in list(self._peers.values())))
        await asyncio.gather(*self._closings)
        self._fanout.close()
        self._thread.shutdown(wait=True)  # at most the one frame that was being made

    # --- viewers --------------------------------------------------------------------------------------------------

    @property
    def num_viewers(self) -> int:
        return len(self._peers)

    async def add_viewer(self, offer_sdp: str) -> tuple[str, str]:
        """Answer a viewer's offer with (viewer_id, answer). Raises `OfferError`; then nothing is left of it."""
        if self._is_closed:
            raise RuntimeError("the program is closed")
        viewer_id = f"viewer_{secrets.token_hex(6)}"
        peer = Peer(viewer_id, self._fanout, clock=self._clock, timeouts=self._timeouts, on_lost=self._lose)
        self._peers[viewer_id] = peer
        try:
            return viewer_id, await peer.open(offer_sdp)
        except BaseException:
            self._peers.pop(viewer_id, None)
            raise

    async def add_candidate(
        self, viewer_id: str, candidate: str, sdp_mid: str | None, sdp_mline_index: int | None
    ) -> None:
        """Add a trickled candidate; of a viewer that is gone already, do nothing. Raises `OfferError`."""
        if peer := self._peers.get(viewer_id):
            await peer.add_candidate(candidate, sdp_mid, sdp_mline_index)

    async def remove_viewer(self, viewer_id: str) -> None:
        """Close a viewer's connection. Without effect on one that is gone already."""
        if peer := self._peers.get(viewer_id):
            await self._close_peer(peer)

    def rtp_timestamp(self, viewer_id: str, frame_index: int) -> int | None:
        """A frame's RTP timestamp on its way to a viewer; None for an unknown viewer, or before its first packet."""
        peer = self._peers.get(viewer_id)
        return None if peer is None else peer.rtp_timestamp(media_time(frame_index, self._format.frame_rate))

    # --- what is measured, what is small --------------------------------------------------------------------------

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
            compose_s=counts.compose_s,
            encode_s=counts.encode_s,
            bytes_sent=fanout.bytes_queued_for_viewers,
            frames_dropped=fanout.frames_dropped,
            keyframe_requests=fanout.keyframe_requests,
            viewers=self.num_viewers,
        )

    def picture_on_air(self, width: int, height: int) -> Frames:
        """The one frame that was shown last, in this size and without a marker; below a blank what runs there.

        Composed anew, on the event loop: 1 to 3 ms, once for a morph.
        """
        picture = Picture(self.stage.layers)
        planes = Compositor(width, height, self._format.frame_rate).compose(picture, 0)
        return Frames(planes[None].copy())  # a copy: the compositor may hand out the clip's own memory

    def jpeg(self, frames: Frames) -> bytes:
        """A small JPEG of the first frame. Touches nothing of the program's: any thread may call it."""
        return _jpeg(frames)

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
                # Task boundary: the program goes on, whatever one frame or one callback did.
                logger.exception("! frame %d failed", frame_index)
                self._counts.failed += 1
            frame_index += 1

    async def _play(self, frame_index: int, skipped: int) -> None:
        """Make a frame ready, send it when it is due, tell who waits for it."""
        picture = self.stage.picture(frame_index)
        has_viewers = bool(self._peers)
        made = await self._make(picture, frame_index) if has_viewers else None
        await self._clock.sleep_until(self._due_at(frame_index))
        if has_viewers:
            self._counts.due += 1 + skipped
            self._send(made, frame_index)
        else:
            self._fanout.forget()
            self._counts.sent_at = None
        self._report(picture, frame_index, made)
        if frame_index % self._format.frame_rate == 0:
            for peer in list(self._peers.values()):
                peer.check_alive()

    async def _make(self, picture: Picture, frame_index: int) -> _Made | None:
        is_keyframe = self._fanout.next_is_keyframe(self._clock.now()) or picture.is_cut
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self._thread, self._studio.make, picture, frame_index, is_keyframe)
        self._counts.failed += made.num_failures
        self._counts.compose_s += made.composed_s
        self._counts.encode_s += made.encoded_s
        if made.encoded is None:
            self._fanout.forget()
            return None
        self._counts.encoded += 1
        return made

    def _send(self, made: _Made | None, frame_index: int) -> None:
        if made is None or made.encoded is None:
            return
        self._fanout.put(made.encoded)
        self._counts.count_sent(self._clock.now(), self._due_at(frame_index), 1 / self._format.frame_rate)

    def _report(self, picture: Picture, frame_index: int, made: _Made | None) -> None:
        on_air = self.stage.on_air
        if on_air != self._on_air:
            self._on_air = on_air
            self._on_changed(*on_air)
        for first in picture.first_shown:
            composed_s, encoded_s = (made.composed_s, made.encoded_s) if made else (0.0, 0.0)
            self._on_shown(Shown(first, frame_index, self._clock.now(), composed_s, encoded_s))

    def _due_at(self, frame_index: float) -> float:
        return self._started_at + frame_index / self._format.frame_rate

    # --- viewers that end -----------------------------------------------------------------------------------------

    def _lose(self, peer: Peer, reason: str) -> None:
        """A viewer is gone by itself: close what is left of it, and say so."""
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
    compose_s: float = 0.0
    encode_s: float = 0.0
    lateness_s: float = 0.0
    max_lateness_s: float = 0.0
    max_gap_s: float = 0.0
    sent_at: float | None = None  # of the last frame, while there are viewers

    def count_sent(self, sent_at: float, due_at: float, frame_s: float) -> None:
        lateness_s = max(0.0, sent_at - due_at)
        self.sent += 1
        self.late += lateness_s >= frame_s
        self.lateness_s += lateness_s
        self.max_lateness_s = max(self.max_lateness_s, lateness_s)
        if self.sent_at is not None:
            self.max_gap_s = max(self.max_gap_s, sent_at - self.sent_at)
        self.sent_at = sent_at


# --- in the worker thread -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Made:
    encoded: EncodedFrame | None
    composed_s: float
    encoded_s: float
    num_failures: int


class _Studio:
    """Compositor and encoder of one program. Used by its worker thread only."""

    def __init__(self, program_format: ProgramFormat) -> None:
        self._format = program_format
        self._clock = MonotonicClock()  # measures work, which no test's clock can
        self._compositor = Compositor(
            program_format.width,
            program_format.height,
            program_format.frame_rate,
            has_marker=program_format.marker,
        )
        self._encoder: Encoder | None = None
        self._last_planes: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None = None
        self._is_failing = False

    def make(self, picture: Picture, frame_index: int, is_keyframe: bool) -> _Made:
        """Compose and encode. What fails is logged when it begins to fail, and counted always."""
        begun_at = self._clock.now()
        num_failures = 0
        try:
            self._last_planes = self._compositor.compose(picture, frame_index)
        except Exception:  # frames that cannot be composed must not stop the program: the last picture is held
            num_failures += 1
            self._log_failure("composed", frame_index)
        composed_at = self._clock.now()
        encoded = None
        try:
            encoded = self._encode(frame_index, is_keyframe)
        except Exception:  # a broken encoder is replaced; the next frame is a keyframe of the new one
            num_failures += 1
            self._encoder = None
            self._log_failure("encoded", frame_index)
        self._is_failing = num_failures > 0
        return _Made(encoded, composed_at - begun_at, self._clock.now() - composed_at, num_failures)

    def _encode(self, frame_index: int, is_keyframe: bool) -> EncodedFrame | None:
        if self._last_planes is None:
            return None
        if self._encoder is None:
            wanted = self._format
            self._encoder = Encoder(wanted.width, wanted.height, wanted.frame_rate, wanted.bitrate)
        return self._encoder.encode(self._last_planes, frame_index, is_keyframe=is_keyframe)

    def _log_failure(self, what: str, frame_index: int) -> None:
        if not self._is_failing:
            logger.exception("! frame %d could not be %s; the last picture is held", frame_index, what)


def _jpeg(frames: Frames) -> bytes:
    width = min(JPEG_MAX_WIDTH, max(JPEG_MIN_WIDTH, frames.width)) // 2 * 2
    height = max(2, round(width * frames.height / frames.width / 2) * 2)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frames.planes[0]), "yuv420p")
    small = frame.reformat(
        width,
        height,
        "yuvj420p",
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.BICUBIC,
        threads=1,
    )
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = width, height, "yuvj420p"
    context.time_base = Fraction(1, 1)
    context.thread_count = 1
    context.options = {"qmin": "3", "qmax": "5"}
    return b"".join(bytes(packet) for packet in [*context.encode(small), *context.encode(None)])
