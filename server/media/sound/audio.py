"""One program's sound: mixes and fades its music and encodes it to Opus once, in step with the picture.

Owned by the program. `music` gives the samples of a name, a worker thread (one for each program that has ever had
music) mixes and encodes them, and `audio_track` hands the packets to the viewers. Runs on the event loop, except for
mixer and encoder, which only the thread uses.

Sound and picture have one clock: sample n of the program is due at t0 + n / 48000, frame k at t0 + k / frame_rate. A
packet has the RTP timestamp of its first sample, and is sent when that is due. aiortc's sender reports give the wall
time of it, so a receiver aligns sound and picture to within our lateness, some ms.

Two batches of packets are made ahead, so a change is heard 80 to 160 ms later, and then fades over half a second. While
there is no music, it is inaudible (volume 0, blank) or nobody listens, nothing is mixed, encoded or sent, and the music
pauses. Packets that would be late, because the event loop was blocked, are left out and counted.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av
import numpy as np

from server.clock import Clock, MonotonicClock
from server.media.sound.audio_track import AudioFanout, Packet
from server.media.sound.music import Library, Music, MusicError, Samples
from server.media.sound.tunes import SAMPLE_RATE

logger = logging.getLogger(__name__)

PACKET_SAMPLES = 960  # 20 ms: what every receiver expects
BATCH_PACKETS = 4
FADE_S = 0.5
# Silence sent after the music has faded out, so that a receiver which waits for more packets plays the end, too.
TAIL_BATCHES = 2
MAX_LATENESS_S = 0.1
BITRATE = 96_000
# Of 0 to 10. Measured here: 0.7 % of a core at 5, 1.0 % at 10.
COMPLEXITY = 5
# A user who tries many pieces quickly hears the last few fade; the oldest is cut off, when it is almost silent.
MAX_VOICES = 3
TIME_BASE = Fraction(1, SAMPLE_RATE)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should be heard. `volume` is the factor of amplitude, 0 to 1."""

    music: str | None = None
    volume: float = 0.0
    is_blank: bool = False

    @property
    def is_silence(self) -> bool:
        return self.music is None or self.volume == 0.0 or self.is_blank


@dataclass(frozen=True, slots=True)
class AudioStatistics:
    listeners: int
    packets_encoded: int
    packets_skipped: int  # made, but too late to be sent
    packets_dropped: int  # for listeners that fell behind
    encode_s: float  # mixing and encoding, in total


class AudioProgram:
    """One program's sound. `on_failed` is called on the event loop with the reason why a piece cannot be played."""

    def __init__(self, library: Library, *, clock: Clock, on_failed: Callable[[str], None]) -> None:
        self._clock = clock
        self._on_failed = on_failed
        self._wanted = Wanted()
        self._changed = asyncio.Event()
        self.fanout = AudioFanout(self._changed.set)
        self._sound_maker = _SoundMaker(library)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="audio")
        self._task: asyncio.Task[None] | None = None
        self._started_at = 0.0
        self._packets_skipped = 0

    def open(self, started_at: float) -> None:
        """Sample 0 is due at `started_at`."""
        self._started_at = started_at
        self._task = asyncio.create_task(self._run(), name="audio")

    async def close(self) -> None:
        """End the sound and wait until its task, its thread and its file are gone. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.fanout.close()
        self._thread.shutdown(wait=True)  # at most the batch that was being made
        self._sound_maker.close()

    def play(self, music: str | None, volume: float) -> None:
        """Fade to this music at this volume; None is silence."""
        self._want(replace(self._wanted, music=music, volume=volume))

    def blank(self, is_blank: bool) -> None:
        """Fade to silence, or back."""
        self._want(replace(self._wanted, is_blank=is_blank))

    def statistics(self) -> AudioStatistics:
        return AudioStatistics(
            listeners=self.fanout.num_listeners,
            packets_encoded=self._sound_maker.packets_encoded,
            packets_skipped=self._packets_skipped,
            packets_dropped=self.fanout.packets_dropped,
            encode_s=self._sound_maker.encode_s,
        )

    def _want(self, wanted: Wanted) -> None:
        if wanted != self._wanted:
            self._wanted = wanted
            self._changed.set()

    # --- the clock loop ---------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            while self._wanted.is_silence or not self.fanout.num_listeners:
                self._changed.clear()
                await self._changed.wait()
            try:
                await self._sound()
            except Exception:
                # Task boundary: the picture goes on, and the next change starts the sound again.
                logger.exception("! the sound failed")
                self._fail("internal server error")

    async def _sound(self) -> None:
        """Play until it is silent, or nobody listens."""
        loop = asyncio.get_running_loop()
        start = math.ceil((self._clock.now() - self._started_at) * SAMPLE_RATE) + 2 * PACKET_SAMPLES
        making = loop.run_in_executor(self._thread, self._sound_maker.start, start, self._wanted)
        try:
            while self.fanout.num_listeners:
                batch = await making
                if batch.failure is not None:
                    self._fail(batch.failure)
                if not batch.packets:
                    return
                making = loop.run_in_executor(self._thread, self._sound_maker.make, self._wanted)
                for packet in batch.packets:
                    await self._send(packet)
                if self._is_late(batch.packets[-1]):
                    return  # and begin again at the present time
        finally:
            # Only the thread uses the studio. A cancelled future may still be running there: `close` waits.
            making.cancel()

    async def _send(self, packet: Packet) -> None:
        await self._clock.sleep_until(self._due_at(packet))
        if self._is_late(packet):
            self._packets_skipped += 1
        else:
            self.fanout.put(packet)

    def _is_late(self, packet: Packet) -> bool:
        return self._clock.now() - self._due_at(packet) > MAX_LATENESS_S

    def _due_at(self, packet: Packet) -> float:
        assert packet.pts is not None
        return self._started_at + packet.pts / SAMPLE_RATE

    def _fail(self, reason: str) -> None:
        self._wanted = replace(self._wanted, music=None)
        self._on_failed(reason)


# --- in the worker thread -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Batch:
    packets: list[Packet]  # empty: it is silent now, until something else is wanted
    failure: str | None = None


class _SoundMaker:
    """Mixer and encoder of one program. Used by its worker thread only, one call at a time."""

    def __init__(self, library: Library) -> None:
        self._mixer = Mixer(library)
        self._encoder: OpusEncoder | None = None
        self._clock = MonotonicClock()  # real time, because a test's clock cannot measure work
        self._num_silent = 0
        self.packets_encoded = 0
        self.encode_s = 0.0

    def start(self, first_sample: int, wanted: Wanted) -> _Batch:
        """The first batch after a silence: sample `first_sample` of the program is the first that is mixed."""
        self._encoder = OpusEncoder(first_sample)
        self._mixer.rewind_fades()
        return self.make(wanted)

    def make(self, wanted: Wanted) -> _Batch:
        begun_at = self._clock.now()
        assert self._encoder is not None
        try:
            mix = self._mixer.mix(wanted, BATCH_PACKETS * PACKET_SAMPLES)
        except MusicError as error:
            logger.warning("- ! music: %s", error)
            return _Batch([], str(error))
        self._num_silent = self._num_silent + 1 if mix is None else 0
        if self._num_silent > TAIL_BATCHES:
            return _Batch([])
        packets = self._encoder.encode(mix if mix is not None else _SILENCE)
        self.packets_encoded += len(packets)
        self.encode_s += self._clock.now() - begun_at
        return _Batch(packets)

    def close(self) -> None:
        self._mixer.close()


_SILENCE: Samples = np.zeros((BATCH_PACKETS * PACKET_SAMPLES, 2), np.float32)


class _Voice:
    """One piece of music and how loud it is."""

    def __init__(self, name: str, music: Music) -> None:
        self.name = name
        self.music = music
        self.gain = 0.0

    def read(self, num_samples: int, target: float) -> Samples:
        """The next samples, the gain on its way to `target` at 1 in `FADE_S`."""
        step = math.copysign(1 / (FADE_S * SAMPLE_RATE), target - self.gain)
        low, high = min(self.gain, target), max(self.gain, target)
        gains = np.clip(self.gain + step * np.arange(1, num_samples + 1, dtype=np.float32), low, high)
        samples: Samples = self.music.read(num_samples) * gains[:, None].astype(np.float32)
        self.gain = float(gains[-1])
        return samples


class Mixer:
    """Fades between pieces of music. The last of `_voices` is the wanted one; the others are fading out."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._voices: list[_Voice] = []
        self._next: _Voice | None = None  # still being computed; the present music plays on until it is ready

    def mix(self, wanted: Wanted, num_samples: int) -> Samples | None:
        """The next samples; None: silence for as long as `wanted` stays. Raises `MusicError` and drops all voices."""
        try:
            self._choose(wanted.music)
            current = self._voices[-1] if self._voices else None
            audible = False
            mix = np.zeros((num_samples, 2), np.float32)
            for voice in list(self._voices):
                is_wanted = voice is current and not wanted.is_blank and wanted.music is not None
                target = wanted.volume if is_wanted else 0.0
                if voice.gain > 0.0 or target > 0.0:
                    audible = True
                    mix += voice.read(num_samples, target)
                elif voice is not current or wanted.music is None:
                    self._drop(voice)
        except MusicError:
            self.close()
            raise
        if audible or (self._next is not None and not wanted.is_silence):
            clipped: Samples = np.clip(mix, -1.0, 1.0)
            return clipped
        return None

    def rewind_fades(self) -> None:
        """After a pause everything fades in again."""
        for voice in self._voices[:-1]:
            self._drop(voice)
        for voice in self._voices:
            voice.gain = 0.0

    def close(self) -> None:
        for voice in [*self._voices, *filter(None, [self._next])]:
            voice.music.close()
        self._voices, self._next = [], None

    def _choose(self, name: str | None) -> None:
        coming = self._next or (self._voices[-1] if self._voices else None)
        if name is not None and (coming is None or coming.name != name):
            if self._next is not None:
                self._next.music.close()
            self._next = _Voice(name, self._library.open(name))
        if self._next is not None and self._next.music.is_ready:
            self._voices.append(self._next)
            self._next = None
            while len(self._voices) > MAX_VOICES:
                self._drop(self._voices[0])

    def _drop(self, voice: _Voice) -> None:
        voice.music.close()
        self._voices.remove(voice)


class OpusEncoder:
    """One run of sound, from sample `first_sample` of the program on."""

    def __init__(self, first_sample: int) -> None:
        self._next_sample = first_sample
        context: Any = av.CodecContext.create("libopus", "w")
        context.sample_rate, context.layout, context.format = SAMPLE_RATE, "stereo", "flt"
        context.bit_rate, context.time_base = BITRATE, TIME_BASE
        context.options = {"application": "audio", "compression_level": str(COMPLEXITY)}
        self._context = context

    def encode(self, samples: Samples) -> list[Packet]:
        """Packets of 20 ms. Their time is the program's; the encoder's delay of 6.5 ms is accounted for in it."""
        packets: list[Packet] = []
        for start in range(0, len(samples), PACKET_SAMPLES):
            part = np.ascontiguousarray(samples[start : start + PACKET_SAMPLES].reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, self._next_sample, TIME_BASE
            self._next_sample += PACKET_SAMPLES
            packets += self._context.encode(frame)
        return packets
