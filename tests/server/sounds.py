"""Music files for tests, and measurements of samples."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import av
import numpy as np

RATE = 48_000


def tone(hz: float, duration_s: float, *, level: float = 0.3) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 ``[N, 2]``"""
    wave_form = level * np.sin(2 * np.pi * hz * np.arange(round(duration_s * RATE)) / RATE)
    return np.repeat(wave_form[:, None], 2, axis=1).astype(np.float32)


def write_wav(path: Path, samples: np.ndarray[Any, Any], rate: int = RATE) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


def write_encoded(path: Path, codec: str, samples: np.ndarray[Any, Any]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.layout = "stereo"
        sample_format = stream.codec_context.codec.audio_formats[0].name
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.reshape(1, -1)), format="flt", layout="stereo")
        frame.sample_rate = RATE
        frames = av.AudioResampler(format=sample_format, layout="stereo", rate=RATE, frame_size=960).resample(frame)
        container.mux([packet for part in [*frames, None] for packet in stream.encode(part)])
    return path


def loudness(samples: np.ndarray[Any, Any]) -> float:
    """RMS of float samples."""
    return float(np.sqrt(np.mean(np.square(samples))))


def pitch_hz(samples: np.ndarray[Any, Any]) -> float:
    """The strongest frequency of ``[N, 2]`` samples at 48 kHz."""
    mono = samples.mean(axis=1)
    spectrum = np.abs(np.fft.rfft(mono * np.hanning(len(mono))))
    return float(np.argmax(spectrum) * RATE / len(mono))
