"""The server's recordings (their names and files), and the recorder of one session.

`Recordings` belongs to the server. It knows the files that this process made, also after their session has ended. A
`Recorder` belongs to a session and makes at most one `server.media.mp4.recording.Recording` at a time. Clients never
give a path: this module names each file and finds it by that name only. Runs on the event loop.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from server.media.mp4.recording import SUFFIX, Recording, RecordingFailed, RecordingLimits, RecordingsFolder, Share
from server.media.program_format import ProgramFormat
from server.metrics import Metrics
from server.protocol.codes import ErrorDetail, error_detail
from server.protocol.errors import Refused
from server.protocol.messages import RecordingChanged
from server.session.neighbours import SessionProgram
from server.store.keys import MAIN

# How many recordings can still be fetched; the files of older ones stay.
MAX_KNOWN = 1000
# Names within one second may be taken: by this session, or by an earlier stage of the same name.
MAX_NAMES_TRIED = 100
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


class Recordings:
    """The server's recordings. Without a folder, `check` refuses them as `not_supported`."""

    def __init__(
        self,
        folder: Path | None = None,
        limits: RecordingLimits | None = None,
        *,
        local_time: Callable[[], str] = lambda: time.strftime("%Y%m%d-%H%M%S"),
    ) -> None:
        limits = limits or RecordingLimits(max_bytes=8 * 10**9)
        is_off = folder is None or 0 in (limits.max_bytes, limits.max_total_bytes)
        self._folder = None if is_off or folder is None else RecordingsFolder(folder, limits)
        self._local_time = local_time
        self._paths: OrderedDict[tuple[str, str, str], Path] = OrderedDict()

    def check(self) -> None:
        """Raises `Refused` (`not_supported`) if this server does not record."""
        if self._folder is None:
            reason = "this server does not record; its operator may name a folder with --recordings-folder"
            raise Refused("not_supported", reason, param="recording")

    @property
    def folder(self) -> RecordingsFolder:
        assert self._folder is not None, "`check` comes first"
        return self._folder

    def new_path(self, session_id: str, number: int, share: Share) -> Path:
        """A path with a name that the server chooses: session, local time, number, and the id of a customer's key."""
        return self.folder.path / f"{_UNSAFE.sub('-', session_id)}-{self._local_time()}-{number}{share.suffix}"

    def stored_bytes(self, tenant: str) -> int:
        """What this tenant has recorded, also by earlier processes. Blocks."""
        return self._folder.count(share_of(tenant).suffix) if self._folder is not None else 0

    def remember(self, tenant: str, session_id: str, path: Path) -> None:
        self._paths[tenant, session_id, path.name] = path
        if len(self._paths) > MAX_KNOWN:
            self._paths.popitem(last=False)

    def find(self, tenant: str, session_id: str, name: str) -> Path:
        """Raises `Refused` (`unknown_recording`), also for another tenant's."""
        path = self._paths.get((tenant, session_id, name))
        if path is None or not path.is_file():
            raise Refused("unknown_recording", "this session has no recording of this name")
        return path


def share_of(tenant: str, max_bytes: int | None = None) -> Share:
    """The files' names tell whose they are, so that they count over restarts. Without customers all are the server's.

    No session's name has a dot, so none can pass for another tenant's.
    """
    return Share(f".{tenant}{SUFFIX}" if tenant not in ("", MAIN) else SUFFIX, max_bytes)


class Recorder:
    """One session's recorder. `on_ended` gets a recording that ended by itself; `start` and `stop` return theirs."""

    def __init__(
        self,
        session_id: str,
        tenant: str,
        program: SessionProgram,
        program_format: ProgramFormat,
        recordings: Recordings,
        metrics: Metrics,
        *,
        max_stored_bytes: int | None = None,
        on_ended: Callable[[RecordingChanged], None],
    ) -> None:
        """`max_stored_bytes`: of all recordings of this tenant."""
        self._session_id, self._tenant = session_id, tenant
        self._share = share_of(tenant, max_stored_bytes)
        self._program = program
        self._format = program_format
        self._recordings = recordings
        self._metrics = metrics
        self._on_ended = on_ended
        self._recording: Recording | None = None
        self._num_recordings = 0
        self._is_closed = False
        self._lock = asyncio.Lock()  # a file is opened and closed off the event loop

    @property
    def is_recording(self) -> bool:
        return self._recording is not None

    def status(self) -> RecordingChanged:
        """The state of the running recording."""
        return self._changed(self._recording, is_recording=self.is_recording)

    async def start(self) -> RecordingChanged:
        """Begins a recording if none runs. Raises `Refused` (`not_supported`). The answer tells of a file error."""
        self._recordings.check()
        async with self._lock:
            if self._recording is None and not self._is_closed:
                try:
                    self._recording = await self._open()
                except RecordingFailed as failure:
                    return self._failed(None, failure)
            return self.status()

    async def stop(self) -> RecordingChanged:
        """Ends the running recording, if there is one. Raises `Refused` (`not_supported`)."""
        self._recordings.check()
        async with self._lock:
            return await self._stop()

    async def close(self) -> RecordingChanged | None:
        """Ends with the session. Returns the end of the recording, if one ran. Idempotent."""
        self._is_closed = True
        async with self._lock:
            return await self._stop() if self.is_recording else None

    async def _stop(self) -> RecordingChanged:
        recording, self._recording = self._recording, None
        if recording is not None:
            await recording.stop()
            self._program.leave(recording.subscription)
        return self._changed(recording, is_recording=False)

    async def _open(self) -> Recording:
        """Raises `RecordingFailed`."""
        for _ in range(MAX_NAMES_TRIED):
            self._num_recordings += 1
            subscription = self._program.record()
            recording = Recording(
                self._recordings.new_path(self._session_id, self._num_recordings, self._share),
                subscription,
                self._program.sound,
                size=(self._format.width, self._format.height),
                frame_rate=self._format.frame_rate,
                folder=self._recordings.folder,
                share=self._share,
                on_ended=self._on_failed,
            )
            try:
                await recording.open()
            except FileExistsError:
                self._program.leave(subscription)
                continue
            except BaseException:
                self._program.leave(subscription)
                raise
            self._recordings.remember(self._tenant, self._session_id, recording.path)
            return recording
        raise RecordingFailed("no name is free in the folder of the recordings")

    def _on_failed(self, failure: RecordingFailed) -> None:
        """The recording ended by itself; its file is closed."""
        recording, self._recording = self._recording, None
        if recording is not None:
            self._program.leave(recording.subscription)
            self._on_ended(self._failed(recording, failure))

    def _failed(self, recording: Recording | None, failure: RecordingFailed) -> RecordingChanged:
        self._metrics.recording_failed()
        detail = error_detail("recording_failed", str(failure))
        return self._changed(recording, is_recording=False, error=detail)

    def _changed(
        self, recording: Recording | None, *, is_recording: bool, error: ErrorDetail | None = None
    ) -> RecordingChanged:
        if recording is None:
            return RecordingChanged(recording=is_recording, error=error)
        name = recording.path.name
        return RecordingChanged(
            recording=is_recording,
            name=name,
            duration_s=round(recording.duration_s, 3),
            size_bytes=recording.size_bytes,
            url=f"/v1/sessions/{self._session_id}/recordings/{name}",
            error=error,
        )
