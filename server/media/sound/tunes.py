"""The included music: three short ambient loops, computed from notes, so that nobody else has rights to them.

Pure numpy, deterministic; called by `music` in its own thread, since a loop takes some tenths of a second to make.

A loop has no seam by construction. Pads are made in the frequency domain (PADsynth, N. O. Paul 2003: each partial is a
narrow band of random phases) by an inverse FFT as long as the loop, so they are periodic. The chords fade into each
other in a circle, and a bell that still rings at the end goes on at the beginning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 48_000
# Of each channel. Stereo that is not in phase adds up to about -20 LUFS (ITU-R BS.1770).
LEVEL_DBFS = -22.0
_A4_HZ, _A4_MIDI = 440.0, 69


@dataclass(frozen=True, slots=True)
class Tune:
    """A loop as notes. Chords and the bells above them are MIDI note numbers; `None` among the bells is a rest."""

    chords: tuple[tuple[int, ...], ...]
    chord_s: float
    bells: tuple[int | None, ...]  # spread evenly over the whole loop
    bell_decay_s: float
    bell_gain: float
    # How fast the pad's partials fall off: 1 is bright as strings, 2 is dark as a choir behind a door.
    darkness: float
    seed: int


TUNES: dict[str, Tune] = {
    "calm": Tune(  # Cmaj9, Am9, Fmaj9, Gsus: one breath each
        chords=((48, 55, 59, 62, 64), (45, 52, 55, 59, 60), (41, 48, 52, 55, 57), (43, 50, 55, 57, 60)),
        chord_s=6.0,
        bells=(76, None, 79, None, 74, None, None, 72, 69, None, 76, None, 74, None, None, 67),
        bell_decay_s=1.4,
        bell_gain=0.20,
        darkness=1.5,
        seed=1,
    ),
    "bright": Tune(  # D, A, Bm, G, twice as lively, with a music box
        chords=((50, 57, 62, 66), (45, 57, 61, 64), (47, 54, 62, 66), (43, 55, 59, 62)),
        chord_s=5.0,
        bells=(
            *(78, 81, 86, 81, 78, 74, 78, 81),
            *(76, 81, 85, 81, 76, 73, 76, None),
            *(78, 83, 86, 83, 78, 74, 78, None),
            *(74, 79, 83, 79, 81, 79, 76, None),
        ),
        bell_decay_s=0.7,
        bell_gain=0.28,
        darkness=1.2,
        seed=2,
    ),
    "night": Tune(  # Am9, Fmaj7, Dm9, Em7: low, slow, far away
        chords=((33, 45, 52, 55, 59), (41, 48, 52, 57), (38, 50, 53, 57, 64), (40, 47, 50, 55)),
        chord_s=7.0,
        bells=(None, 88, None, None, 83, None, None, 81, None, None, None, 84, None, 79, None, None),
        bell_decay_s=2.5,
        bell_gain=0.10,
        darkness=2.0,
        seed=3,
    ),
}


def loop(tune: Tune) -> NDArray[np.int16]:
    """The tune as PCM, int16 ``[N, 2]`` at 48 kHz, to be repeated without a break."""
    generator = np.random.default_rng(tune.seed)
    chord_samples = round(tune.chord_s * SAMPLE_RATE)
    num_samples = chord_samples * len(tune.chords)
    mix = np.zeros((num_samples, 2), np.float32)
    for index, chord in enumerate(tune.chords):
        envelope = np.roll(_envelope(num_samples, chord_samples), index * chord_samples)
        for channel in range(2):
            mix[:, channel] += envelope * _pad(chord, num_samples, tune.darkness, generator)
    mix /= np.sqrt(np.mean(np.square(mix)))
    _ring(mix, tune)
    return _levelled(mix)


def _envelope(num_samples: int, chord_samples: int) -> NDArray[np.float32]:
    """One chord's share of the loop: in and out over its neighbours' thirds, at equal power."""
    fade = chord_samples // 3
    rise = np.sin(np.linspace(0.0, np.pi / 2, 2 * fade, dtype=np.float32))
    envelope = np.zeros(num_samples, np.float32)
    envelope[: 2 * fade] = rise
    envelope[2 * fade : chord_samples] = 1.0
    envelope[chord_samples : chord_samples + 2 * fade] = rise[::-1]
    return np.roll(envelope, -fade)


def _pad(
    chord: tuple[int, ...], num_samples: int, darkness: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """A chord that goes on for the whole loop and closes on itself; float32 ``[N]`` of any level."""
    spectrum = np.zeros(num_samples // 2 + 1, np.complex64)
    bin_hz = SAMPLE_RATE / num_samples
    for note in chord:
        for partial in range(1, 9):
            centre_hz = _hz(note) * partial
            width_hz = max(0.4, centre_hz * 0.004)  # a few cents: many players, slightly apart
            first = round((centre_hz - 2.5 * width_hz) / bin_hz)
            bins = np.arange(first, round((centre_hz + 2.5 * width_hz) / bin_hz) + 1)
            power = np.exp(-(((bins * bin_hz - centre_hz) / width_hz) ** 2))
            amplitude = np.sqrt(power / power.sum()) / partial**darkness
            phases = generator.uniform(0.0, 2 * np.pi, bins.size)
            spectrum[bins] += (amplitude * np.exp(1j * phases)).astype(np.complex64)
    pad: NDArray[np.float32] = np.fft.irfft(spectrum, num_samples).astype(np.float32)
    return pad


def _ring(mix: NDArray[np.float32], tune: Tune) -> None:
    """Strike the bells into the mix, alternately left and right of the middle; what rings over the end wraps around."""
    num_samples = len(mix)
    length = min(num_samples, round(4 * tune.bell_decay_s * SAMPLE_RATE))
    at_s = np.arange(length, dtype=np.float32) / SAMPLE_RATE
    attack = np.minimum(1.0, at_s / 0.004)
    tones: dict[int, NDArray[np.float32]] = {}
    for index, note in enumerate(tune.bells):
        if note is None:
            continue
        if note not in tones:
            tone = np.zeros(length, np.float32)
            for ratio, gain, speed in ((1.0, 1.0, 1.0), (2.0, 0.35, 2.0), (3.0, 0.12, 3.5)):
                fading = gain * np.exp(-at_s * (speed / tune.bell_decay_s))
                tone += fading * np.sin(at_s * (2 * np.pi * ratio * _hz(note)))
            tones[note] = attack * tone
        # The ear places a bell by level; each stays audible on both sides.
        sides = np.array((0.8, 0.45) if index % 2 else (0.45, 0.8), np.float32) * tune.bell_gain * 4
        where = (num_samples * index // len(tune.bells) + np.arange(length)) % num_samples
        mix[where] += tones[note][:, None] * sides


def _levelled(mix: NDArray[np.float32]) -> NDArray[np.int16]:
    mix = mix * (10 ** (LEVEL_DBFS / 20) / np.sqrt(np.mean(np.square(mix))))
    peak = float(np.abs(mix).max())
    if peak > 1.0:
        raise ValueError(f"the tune clips: its peak is {peak:.2f}")
    return np.round(mix * 32767).astype(np.int16)


def _hz(note: int) -> float:
    return float(_A4_HZ * 2 ** ((note - _A4_MIDI) / 12))
