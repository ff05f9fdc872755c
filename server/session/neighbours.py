"""Protocols of a session's neighbours: its controller's connection, its program, and the shelf of finished clips.

With them a test can run a session without sockets and pixels. The real ones are `connection.Connection`,
`server.media.program.Program` and `server.clips.shelf.ClipShelf`. Everything is called on the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from engine.api import Frames, Quality
from server.clock import Clock
from server.media.program import ProgramStatistics, Shown
from server.media.program_format import ProgramFormat
from server.media.sound.audio_track import AudioFanout
from server.media.video.fanout import Subscription
from server.media.webrtc.signalling import Offer
from server.media.webrtc.whip import Publisher
from server.stage.picture import OnAir
from server.stage.stage import Stage


class Controller(Protocol):
    """What a session needs of `connection.Connection`."""

    def abort(self, reason: str) -> None:
        """Closes the connection at once, without waiting for its peer. Never raises."""
        ...

    async def farewell(self) -> None:
        """The session's last event is in its outbox, and its program is about to end.

        If the program's own peer carries the connection, returns when that event is sent, or after a short timeout.
        """
        ...


class SessionProgram(Protocol):
    """What a session needs of `server.media.program.Program`."""

    @property
    def stage(self) -> Stage: ...
    @property
    def num_viewers(self) -> int: ...
    @property
    def dead_task(self) -> str | None: ...
    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def add_viewer(
        self,
        offer: str | Offer,
        *,
        on_channel: Callable[[Any], None] | None = None,
        on_watching: Callable[[str], bool] = lambda viewer_id: True,
    ) -> tuple[str, str]: ...
    async def add_candidate(
        self, viewer_id: str, candidate: str, sdp_mid: str | None, sdp_mline_index: int | None
    ) -> None: ...
    async def remove_viewer(self, viewer_id: str) -> None: ...
    def drop_viewer(self, viewer_id: str) -> None: ...
    def is_watching(self, viewer_id: str) -> bool: ...
    @property
    def sound(self) -> AudioFanout: ...
    def watch(self) -> Subscription: ...
    def record(self) -> Subscription: ...
    def leave(self, subscription: Subscription) -> None: ...
    def rtp_timestamp(self, viewer_id: str, frame_index: int) -> int | None: ...
    def new_publisher(self) -> Publisher: ...
    def play(self, music: str | None, volume: float) -> None: ...
    def statistics(self) -> ProgramStatistics: ...
    def picture_on_air(self, width: int, height: int) -> Frames: ...
    def jpeg(self, frames: Frames) -> bytes: ...


class ProgramFactory(Protocol):
    def __call__(
        self,
        program_format: ProgramFormat,
        *,
        clock: Clock,
        on_shown: Callable[[Shown], None],
        on_changed: Callable[[OnAir, str | None], None],
        on_viewer_lost: Callable[[str], None],
        on_music_failed: Callable[[str], None],
    ) -> SessionProgram: ...


@dataclass(frozen=True, slots=True)
class FinishedClip:
    """A clip of `/v1/videos`, and the prompt that it was made from."""

    clip_id: str
    text: str
    seed: int
    quality: Quality
    lora: str | None
    frame_rate: int


class Shelf(Protocol):
    """The finished clips of all tenants."""

    async def find(self, clip_id: str, tenant: str) -> FinishedClip:
        """Raises `Refused` (`unknown_video`, `not_ready`). Another tenant's clip looks like none."""
        ...

    async def read(
        self, clip: FinishedClip, *, max_pixels: int, start_size: tuple[int, int] | None
    ) -> tuple[Frames, Frames | None]:
        """Its frames, of at most `max_pixels` each, and the last one in the model's size, if that is given.

        Raises `Refused` (`unknown_video`) if its file has gone. If it is cancelled, reading stops at the next frame.
        """
        ...
