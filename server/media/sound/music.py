"""The music library: turns a name into samples, from included loops and from the operator's files.

`Library` is made at start and shared by all sessions; `audio` reads the `Music` that it gives, each in its own worker
thread. Clients choose among the names that were listed at start, and never give a path.

An included loop is computed once, at its first use, in the library's own thread. A file is decoded while it plays, one
second ahead for the seam, whatever its length. Its end fades into its own beginning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from numpy.typing import NDArray

from server.config import ConfigError
from server.media.sound import tunes
from server.media.sound.tunes import SAMPLE_RATE

logger = logging.getLogger(__name__)

Samples = NDArray[np.float32]  # [N, 2] at 48 kHz, full scale is 1.0

# The demuxer by suffix; no other is tried, because a playlist named .mp3 must not make us open the files in it.
FORMATS = {".wav": "wav", ".flac": "flac", ".mp3": "mp3", ".ogg": "ogg", ".opus": "ogg", ".m4a": "mov"}
# More than anybody chooses from a list, and few enough to check each at start (some ms).
MAX_FILES = 200
MAX_NAME_CHARACTERS = 64
CROSSFADE_SAMPLES = SAMPLE_RATE
# Shorter files would be opened again several times a second.
MIN_FILE_SAMPLES = SAMPLE_RATE // 2


class MusicError(Exception):
    """A piece of music cannot be played, or no longer; the message says which and why."""


class Music(Protocol):
    """An endless piece of music, read by one thread."""

    @property
    def is_ready(self) -> bool:
        """Whether `read` has something to give at once. Once true, it stays so."""
        ...

    def read(self, num_samples: int) -> Samples:
        """The next samples. Raises `MusicError`; the piece cannot be used after that."""
        ...

    def close(self) -> None: ...


class Library:
    """The music there is, by name. Raises `ConfigError` for a folder that cannot be listed.

    Everything may be called on the event loop. `close` waits for a loop that is being computed, half a second.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._files = _listed(folder) if folder is not None else {}
        self._loops: dict[str, Future[NDArray[np.int16]]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="music")
        self.names: tuple[str, ...] = (*tunes.TUNES, *sorted(self._files))

    def open(self, name: str) -> Music:
        """The piece from its beginning. `KeyError` for a name that is not in `names`."""
        if name in self._files:
            return FileMusic(self._files[name])
        if name not in self._loops:
            self._loops[name] = self._thread.submit(tunes.loop, tunes.TUNES[name])
        return LoopMusic(name, self._loops[name])

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)


class LoopMusic:
    """PCM in memory, int16 ``[N, 2]``, over and over."""

    def __init__(self, name: str, pcm: Future[NDArray[np.int16]]) -> None:
        self._name = name
        self._pcm = pcm
        self._position = 0

    @property
    def is_ready(self) -> bool:
        return self._pcm.done()

    def read(self, num_samples: int) -> Samples:
        try:
            pcm = self._pcm.result()
        except Exception as error:  # any error of the computation is our bug, and the same each time
            raise MusicError(f"the loop {self._name} cannot be made: {error}") from error
        where = (self._position + np.arange(num_samples)) % len(pcm)
        self._position = (self._position + num_samples) % len(pcm)
        samples: Samples = pcm[where].astype(np.float32) / np.float32(32768)
        return samples

    def close(self) -> None:
        pass


class FileMusic:
    """A file, decoded as it plays. Holds a second and a bit of samples, and one open file."""

    is_ready = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decoder = _decoded(path)
        self._ahead: list[Samples] = []
        self._num_ahead = 0
        self._round_samples = 0  # of this round, decoded so far

    def read(self, num_samples: int) -> Samples:
        """The next samples. Holds back one second, which is faded if the file turns out to end there."""
        while self._num_ahead < num_samples + CROSSFADE_SAMPLES:
            if (chunk := self._next_chunk()) is not None:
                self._put(chunk)
            elif self._round_samples < MIN_FILE_SAMPLES:
                raise MusicError(f"{self._path.name} has become unreadable")
            else:
                self._begin_again()
        ahead = np.concatenate(self._ahead)
        self._ahead, self._num_ahead = [ahead[num_samples:]], len(ahead) - num_samples
        return ahead[:num_samples]

    def close(self) -> None:
        self._decoder.close()

    def _next_chunk(self) -> Samples | None:
        """None at the end. A part that cannot be decoded counts as the end, because some files are cut off."""
        try:
            return next(self._decoder, None)
        except (av.FFmpegError, OSError) as error:
            logger.warning("- ! music %s: %s; it begins again from here", self._path.name, error)
            return None

    def _put(self, chunk: Samples) -> None:
        self._ahead.append(chunk)
        self._num_ahead += len(chunk)
        self._round_samples += len(chunk)

    def _begin_again(self) -> None:
        """The file has ended: fade its last second (a quarter of it, if it is short) into its first, at equal power."""
        fade = min(CROSSFADE_SAMPLES, self._round_samples // 4)
        self._decoder.close()
        self._decoder = _decoded(self._path)
        head = np.zeros((0, 2), np.float32)
        while len(head) < fade:
            chunk = self._next_chunk()
            if chunk is None:
                raise MusicError(f"{self._path.name} has become unreadable")
            head = np.concatenate((head, chunk))
        self._round_samples = len(head)
        ahead = np.concatenate(self._ahead)
        angle = np.linspace(0.0, np.pi / 2, fade, dtype=np.float32)[:, None]
        ahead[-fade:] = ahead[-fade:] * np.cos(angle) + head[:fade] * np.sin(angle)
        self._ahead = [ahead, head[fade:]]
        self._num_ahead = len(ahead) + len(head) - fade


class _Decoder(Protocol):
    def __next__(self) -> Samples: ...
    def __iter__(self) -> Iterator[Samples]: ...
    def close(self) -> None: ...


def _decoded(path: Path) -> Any:
    """A generator of float32 ``[N, 2]`` at 48 kHz; closing it closes the file."""
    resampler = av.AudioResampler(format="flt", layout="stereo", rate=SAMPLE_RATE)
    with av.open(path, format=FORMATS[path.suffix.lower()], options={"protocol_whitelist": "file"}) as container:
        for frame in container.decode(container.streams.audio[0]):
            frame.pts = None  # some files have odd timestamps, so frames play in their order
            for resampled in resampler.resample(frame):
                yield _samples(resampled)
        for resampled in resampler.resample(None):
            yield _samples(resampled)


def _samples(frame: av.AudioFrame) -> Samples:
    samples: Samples = frame.to_ndarray().reshape(-1, 2).astype(np.float32, copy=False)
    return samples


# --- what is in the folder ------------------------------------------------------------------------------------------


def _listed(folder: Path) -> dict[str, Path]:
    """Name (the file's, without suffix) → file. Leaves out files that cannot be played, with a warning each."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in FORMATS and path.is_file())
    except OSError as error:
        raise ConfigError("music_folder", f"cannot be listed: {error.strerror}", str(folder)) from None
    files: dict[str, Path] = {}
    warn = partial(logger.warning, "- ! music %s is left out: %s")
    for path in paths[:MAX_FILES]:
        if path.stem in files or path.stem in tunes.TUNES:
            warn(path.name, f"there is another piece called {path.stem}")
        elif not path.stem.isprintable() or len(path.stem) > MAX_NAME_CHARACTERS:
            warn(repr(path.name), f"its name is not printable or longer than {MAX_NAME_CHARACTERS} characters")
        elif (reason := _unplayable(path)) is not None:
            warn(path.name, reason)
        else:
            files[path.stem] = path
    if len(paths) > MAX_FILES:
        logger.warning("- ! of %d music files only the first %d are listed", len(paths), MAX_FILES)
    return files


def _unplayable(path: Path) -> str | None:
    """Why a file cannot be played, by decoding its first half second; None if it can."""
    num_samples = 0
    try:
        for chunk in _decoded(path):
            num_samples += len(chunk)
            if num_samples >= MIN_FILE_SAMPLES:
                return None
    except (av.FFmpegError, OSError, IndexError, ValueError) as error:
        return f"it cannot be decoded ({type(error).__name__})"
    return "it is shorter than half a second"
