"""The music library: the included loops, and the files of the operator's folder."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from sounds import RATE, loudness, pitch_hz, tone, write_encoded, write_wav

from server.config import ConfigError
from server.media.sound import music, tunes
from server.media.sound.music import CROSSFADE_SAMPLES, FileMusic, Library, MusicError


@pytest.mark.parametrize("name", tunes.TUNES)
def test_an_included_loop_is_the_same_each_time_and_has_no_seam(name: str) -> None:
    loop = tunes.loop(tunes.TUNES[name])
    assert loop.dtype == np.int16 and loop.shape[1] == 2
    steps = np.abs(np.diff(loop.astype(int), axis=0))
    assert (np.abs(loop[0].astype(int) - loop[-1]) <= np.percentile(steps, 99.9)).all()
    second = RATE
    around_seam = loudness(np.concatenate((loop[-second // 2 :], loop[: second // 2])) / 32768)
    assert around_seam == pytest.approx(loudness(loop / 32768), rel=0.5)  # no gap, no swell
    assert (loop == tunes.loop(tunes.TUNES[name])).all()


@pytest.mark.parametrize("name", tunes.TUNES)
def test_an_included_loop_is_as_loud_as_background_music(name: str) -> None:
    loop = tunes.loop(tunes.TUNES[name]).astype(np.float32) / 32768
    assert -22.0 < _integrated_lufs(loop) < -18.0
    assert np.abs(loop).max() < 0.7


def _integrated_lufs(samples: np.ndarray) -> float:
    """By ffmpeg's own meter."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(format="flt", layout="stereo", sample_rate=RATE, time_base=Fraction(1, RATE))
    meter, sink = graph.add("ebur128", "metadata=1"), graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    measured = 0.0
    for start in range(0, len(samples), RATE):
        part = np.ascontiguousarray(samples[start : start + RATE].reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(part, format="flt", layout="stereo")
        frame.sample_rate, frame.pts = RATE, start
        source.push(frame)
        while True:
            try:
                measured = float(sink.pull().metadata.get("lavfi.r128.I", measured))
            except (av.BlockingIOError, av.EOFError):
                break
    return measured


def test_a_loop_is_made_at_its_first_use_and_then_repeats() -> None:
    library = Library()
    assert library.names == ("calm", "bright", "night")
    first = library.open("calm")
    length = len(tunes.loop(tunes.TUNES["calm"]))
    once = first.read(length)  # blocks until it is made; the mixer asks `is_ready` instead
    assert first.is_ready and library.open("calm").is_ready
    assert (first.read(1000) == once[:1000]).all()
    assert (library.open("calm").read(1000) == once[:1000]).all()
    library.close()


# --- files ----------------------------------------------------------------------------------------------------------


def test_files_are_listed_by_name_without_those_that_cannot_be_played(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_wav(tmp_path / "waves.wav", tone(300, 1.0))
    write_wav(tmp_path / "晚风.WAV", tone(300, 1.0))
    write_wav(tmp_path / "short.wav", tone(300, 0.2))
    write_wav(tmp_path / "calm.wav", tone(300, 1.0))
    write_wav(tmp_path / ("long" * 20 + ".wav"), tone(300, 1.0))
    (tmp_path / "broken.mp3").write_bytes(b"no music at all" * 500)
    (tmp_path / "empty.flac").write_bytes(b"")
    (tmp_path / "playlist.mp3").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/x.ts\n")
    (tmp_path / "cover.jpg").write_bytes(b"x")
    (tmp_path / "folder.wav").mkdir()
    with caplog.at_level(logging.WARNING):
        library = Library(tmp_path)
    assert library.names == ("calm", "bright", "night", "waves", "晚风")
    for left_out in ("short.wav", "calm.wav", "longlong", "broken.mp3", "empty.flac", "playlist.mp3"):
        assert left_out in caplog.text
    with pytest.raises(KeyError):
        library.open("../waves")
    library.close()


def test_a_bad_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Library(tmp_path / "nowhere")
    assert caught.value.setting == "music_folder"


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".flac", "flac"), (".mp3", "libmp3lame"), (".opus", "libopus"), (".m4a", "aac")]
)
def test_files_of_many_kinds_sound_as_they_should(tmp_path: Path, suffix: str, codec: str) -> None:
    write_encoded(tmp_path / f"tone{suffix}", codec, tone(440, 2.0))
    library = Library(tmp_path)
    assert "tone" in library.names
    heard = library.open("tone").read(RATE)
    assert pitch_hz(heard[RATE // 2 :]) == pytest.approx(440, abs=3)
    library.close()


def test_other_sample_rates_and_mono_files_play(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "low.wav", tone(880, 1.0)[:, :1], rate=22_050)
    heard = FileMusic(path).read(RATE // 2)
    assert pitch_hz(heard) == pytest.approx(880 * 22_050 / RATE, abs=4)
    assert (heard[:, 0] == heard[:, 1]).all()


def test_the_end_of_a_file_fades_into_its_beginning(tmp_path: Path) -> None:
    """A rising ramp: a hard seam would be a step down by the whole of it."""
    ramp = np.repeat(np.linspace(0.0, 0.5, 5 * RATE, dtype=np.float32)[:, None], 2, axis=1)
    piece = FileMusic(write_wav(tmp_path / "ramp.wav", ramp))
    heard = np.concatenate([piece.read(960) for _ in range(12 * 50)])
    period = 5 * RATE - CROSSFADE_SAMPLES
    assert np.abs(np.diff(heard[:, 0])).max() < 0.001
    assert np.allclose(heard[period + CROSSFADE_SAMPLES : 2 * period], heard[CROSSFADE_SAMPLES:period], atol=1e-3)
    piece.close()


def test_a_file_shorter_than_the_fade_loops_too(tmp_path: Path) -> None:
    piece = FileMusic(write_wav(tmp_path / "short.wav", tone(440, 0.6)))
    heard = np.concatenate([piece.read(3840) for _ in range(25)])
    windows = heard[: len(heard) // 4800 * 4800].reshape(-1, 4800, 2)
    assert min(loudness(window) for window in windows) > 0.05
    assert piece._num_ahead < 3 * RATE


def test_a_long_file_is_never_held_as_a_whole(tmp_path: Path) -> None:
    piece = FileMusic(write_wav(tmp_path / "long.wav", tone(440, 60.0)))
    for _ in range(100):
        piece.read(3840)
        assert piece._num_ahead <= CROSSFADE_SAMPLES + 2 * RATE


def test_a_file_that_becomes_unreadable_says_so(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "gone.wav", tone(440, 2.0))
    piece = FileMusic(path)
    piece.read(RATE // 2)
    path.unlink()
    with pytest.raises(MusicError, match=r"gone\.wav"):
        for _ in range(10):
            piece.read(RATE)


def test_only_these_suffixes_are_known_formats() -> None:
    assert set(music.FORMATS) == {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a"}
