"""A program's sound: fades, a viewer's sound in step with its picture, and silence that costs nothing."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiortc.rtp import RtcpSrPacket
from aiortc.sdp import SessionDescription
from sounds import RATE, loudness, pitch_hz, tone, write_wav

from server.media.sound.audio import FADE_S, MAX_VOICES, Mixer, OpusEncoder, Wanted
from server.media.sound.audio_track import MAX_QUEUED_PACKETS, AudioFanout
from server.media.sound.music import Library, MusicError, Samples
from server.media.webrtc.signalling import wants_audio

Open = Callable[..., Awaitable[Any]]
BATCH = 3840
PATIENCE_S = 15.0


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    write_wav(tmp_path / "low.wav", tone(300, 5.0))
    write_wav(tmp_path / "high.wav", tone(1200, 5.0))
    library = Library(tmp_path)
    yield library
    library.close()


class ListedMusic(Library):
    """A library with one piece that the test provides."""

    def __init__(self, piece: Any) -> None:
        super().__init__()
        self.piece = piece

    def open(self, name: str) -> Any:
        return self.piece if name == "piece" else super().open(name)


# --- the mixer ------------------------------------------------------------------------------------------------------


def mixed(mixer: Mixer, wanted: Wanted, duration_s: float) -> np.ndarray[Any, Any]:
    parts = [mixer.mix(wanted, BATCH) for _ in range(round(duration_s * RATE / BATCH))]
    return np.concatenate([np.zeros((BATCH, 2), np.float32) if part is None else part for part in parts])


def window(samples: np.ndarray[Any, Any], at_s: float, duration_s: float = 0.05) -> np.ndarray[Any, Any]:
    return samples[round(at_s * RATE) : round((at_s + duration_s) * RATE)]


def test_music_fades_in_and_follows_its_volume_without_a_click(library: Library) -> None:
    mixer = Mixer(library)
    loud = mixed(mixer, Wanted("low", 1.0), 1.2)
    full = loudness(tone(300, 1.0))
    assert loudness(window(loud, 0.0)) < full / 5
    assert loudness(window(loud, FADE_S / 2)) == pytest.approx(full / 2, rel=0.2)
    assert loudness(window(loud, 1.1)) == pytest.approx(full, rel=0.02)
    soft = mixed(mixer, Wanted("low", 0.25), 1.2)
    assert loudness(window(soft, 1.1)) == pytest.approx(full / 4, rel=0.02)
    steepest = 0.3 * 2 * np.pi * 300 / RATE
    assert np.abs(np.diff(np.concatenate((loud, soft)), axis=0)).max() < 1.1 * steepest


def test_another_piece_fades_over_the_one_that_plays(library: Library) -> None:
    mixer = Mixer(library)
    mixed(mixer, Wanted("low", 1.0), 0.6)
    both = mixed(mixer, Wanted("high", 1.0), 1.2)
    assert pitch_hz(window(both, 0.0)) == pytest.approx(300, abs=20)
    assert pitch_hz(window(both, 1.0)) == pytest.approx(1200, abs=20)
    spectrum = np.abs(np.fft.rfft(window(both, 0.225)[:, 0]))
    assert min(spectrum[15], spectrum[60]) > 0.3 * max(spectrum)  # 20 Hz per bin: in the middle both are heard
    assert len(mixer._voices) == 1


@pytest.mark.parametrize("silence", [Wanted(None, 1.0), Wanted("low", 0.0), Wanted("low", 1.0, is_blank=True)])
def test_music_fades_to_silence_and_silence_costs_nothing(library: Library, silence: Wanted) -> None:
    mixer = Mixer(library)
    mixed(mixer, Wanted("low", 1.0), 0.6)
    fading = mixer.mix(silence, BATCH)
    assert fading is not None and loudness(fading) > 0.1
    mixed(mixer, silence, FADE_S)
    assert mixer.mix(silence, BATCH) is None
    again = mixed(mixer, Wanted("low", 1.0), 0.64)
    assert loudness(window(again, 0.0)) < 0.05 < loudness(window(again, 0.58))


def test_quick_changes_of_music_keep_few_voices(library: Library) -> None:
    mixer = Mixer(library)
    for index in range(20):
        mixer.mix(Wanted(("low", "high")[index % 2], 1.0), BATCH)
        assert len(mixer._voices) <= MAX_VOICES
    mixer.close()


def test_the_present_music_plays_until_the_next_loop_is_ready(library: Library) -> None:
    class Coming:
        is_ready = False

        def read(self, num_samples: int) -> Samples:
            assert self.is_ready
            return tone(1200, num_samples / RATE)

        def close(self) -> None: ...

    coming = Coming()
    listed = ListedMusic(coming)
    listed._files = library._files
    mixer = Mixer(listed)
    mixed(mixer, Wanted("low", 1.0), 0.6)
    assert pitch_hz(mixed(mixer, Wanted("piece", 1.0), 0.8)) == pytest.approx(300, abs=5)
    coming.is_ready = True
    assert pitch_hz(window(mixed(mixer, Wanted("piece", 1.0), 0.8), 0.6)) == pytest.approx(1200, abs=20)
    listed.close()


def test_packets_carry_the_programs_time() -> None:
    packets = OpusEncoder(96_000).encode(tone(300, 0.2))
    times = [packet.pts for packet in packets]
    assert np.diff(times).tolist() == [960] * (len(times) - 1)
    assert 0 <= 96_000 - times[0] <= 960  # the encoder's look-ahead belongs before the first sample
    assert len(packets) == 10


async def test_a_listener_that_falls_behind_loses_the_oldest_packets() -> None:
    fanout = AudioFanout(lambda: None)
    slow = fanout.subscribe()
    packets = OpusEncoder(0).encode(tone(300, 0.02 * (MAX_QUEUED_PACKETS + 5)))
    for packet in packets:
        fanout.put(packet)
    assert fanout.packets_dropped == 5
    assert (await slow.next()) is packets[5]
    fanout.close()
    assert (await slow.next()) is None


# --- a viewer that hears --------------------------------------------------------------------------------------------


class Ear:
    """The audio side of a `Receiver`."""

    def __init__(self, receiver: Any) -> None:
        self.receiver = receiver
        self.transceiver = receiver.connection.addTransceiver("audio", direction="recvonly")
        self.wire_timestamps: list[int] = []
        self.clocks: dict[str, tuple[float, int]] = {}  # kind → NTP seconds and RTP timestamp, of the last report
        self._reported = asyncio.Event()
        for transceiver in (self.transceiver, receiver.transceiver):
            self._listen_to_reports(transceiver.receiver)
        stock: Any = self.transceiver.receiver
        handle = stock._handle_rtp_packet

        async def note(packet: Any, arrival_time_ms: int) -> None:
            self.wire_timestamps.append(packet.timestamp)
            await handle(packet, arrival_time_ms=arrival_time_ms)

        stock._handle_rtp_packet = note

    def _listen_to_reports(self, stock: Any) -> None:
        handle = stock._handle_rtcp_packet

        async def note(packet: Any) -> None:
            if isinstance(packet, RtcpSrPacket) and packet.sender_info.ntp_timestamp:
                info = packet.sender_info
                self.clocks[stock._track.kind] = (info.ntp_timestamp / (1 << 32), info.rtp_timestamp)
                self._reported.set()
            await handle(packet)

        stock._handle_rtcp_packet = note

    async def samples(self) -> tuple[np.ndarray[Any, Any], int]:
        """The next 20 ms, float ``[960, 2]``, and the RTP timestamp of the first."""
        frame: Any = await asyncio.wait_for(self.transceiver.receiver.track.recv(), PATIENCE_S)
        heard = frame.to_ndarray().reshape(-1, 2).astype(np.float32) / 32768
        return heard, (self.wire_timestamps[0] + frame.pts) & 0xFFFFFFFF

    async def hears(self, is_it: Callable[[np.ndarray[Any, Any]], bool]) -> np.ndarray[Any, Any]:
        """Listen, 0.1 s at a time, until it sounds as it should."""
        while True:
            heard = np.concatenate([(await self.samples())[0] for _ in range(5)])
            if is_it(heard):
                return heard

    async def wall_time(self, kind: str, rtp_timestamp: int, clock_rate: int) -> float:
        """The sender's wall time of an RTP timestamp, by its reports (RFC 3550 section 6.4.1)."""
        async with asyncio.timeout(PATIENCE_S):
            while kind not in self.clocks:
                self._reported.clear()
                await self._reported.wait()
        ntp_s, reported = self.clocks[kind]
        ticks = (rtp_timestamp - reported + (1 << 31)) % (1 << 32) - (1 << 31)
        return ntp_s + ticks / clock_rate


async def test_a_viewer_hears_the_music_at_its_volume_and_a_blank_silences_it(
    open_program: Open, new_receiver: Any, library: Library
) -> None:
    hand = await open_program(music=library)
    receiver = new_receiver()
    ear = Ear(receiver)
    hand.program.play("low", 1.0)
    await receiver.watch(hand.program)
    assert "opus" in receiver.answer
    full = loudness(tone(300, 1.0))
    heard = await ear.hears(lambda heard: loudness(heard) > 0.95 * full)
    assert pitch_hz(heard) == pytest.approx(300, abs=12)
    hand.program.play("high", 0.5)
    await ear.hears(lambda heard: abs(pitch_hz(heard) - 1200) < 15 and 0.45 * full < loudness(heard) < 0.55 * full)
    hand.program.stage.blank()
    await ear.hears(lambda heard: loudness(heard[-960:]) < 0.01)
    await receiver.marked()  # the picture goes on, though black
    hand.program.stage.resume()
    await ear.hears(lambda heard: loudness(heard) > 0.45 * full)


class Click:
    """Silence, and after a second one loud click of 1 ms."""

    is_ready = True

    def __init__(self) -> None:
        self._position = 0

    def read(self, num_samples: int) -> Samples:
        at = np.arange(self._position, self._position + num_samples)
        self._position += num_samples
        is_click = (at >= RATE) & (at < RATE + 48)
        return np.repeat(np.where(is_click, 0.9, 0.0)[:, None], 2, axis=1).astype(np.float32)

    def close(self) -> None: ...


async def test_sound_and_picture_are_in_step_on_the_senders_clock(open_program: Open, new_receiver: Any) -> None:
    library = ListedMusic(Click())
    hand = await open_program(music=library)
    sound_maker = hand.program._audio._sound_maker
    begun: list[int] = []
    start = sound_maker.start
    sound_maker.start = lambda first, wanted: (begun.append(first), start(first, wanted))[1]
    receiver = new_receiver()
    ear = Ear(receiver)
    hand.program.play("piece", 1.0)
    await receiver.watch(hand.program)
    frame_index, video_timestamp = await receiver.marked()
    while True:
        heard, audio_timestamp = await ear.samples()
        if np.abs(heard).max() > 0.2:
            break
    click_sample = begun[0] + RATE
    audio_timestamp += int(np.abs(heard[:, 0]).argmax())
    # The start of the program by the picture, and by the sound.
    by_picture = await ear.wall_time("video", video_timestamp, 90_000) - frame_index / 24
    by_sound = await ear.wall_time("audio", audio_timestamp, RATE) - click_sample / RATE
    assert abs(by_picture - by_sound) < 0.05
    # Both declare that they belong together: the same stream, the same CNAME (RFC 8830, RFC 3550 section 6.5.1).
    media = SessionDescription.parse(receiver.answer).media
    assert len({section.msid.split()[0] for section in media}) == 1
    assert len({description.cname for section in media for description in section.ssrc}) == 1
    library.close()


async def test_no_sound_is_encoded_without_a_viewer_that_hears_it(
    open_program: Open, new_receiver: Any, library: Library
) -> None:
    hand = await open_program(music=library)
    deaf = new_receiver()
    hand.program.play("low", 1.0)
    await deaf.watch(hand.program)
    indices = [(await deaf.marked())[0] for _ in range(24)]
    assert indices == hand.sent_from(indices[0], 24)
    assert "m=audio" not in deaf.answer
    statistics = hand.program.audio_statistics()
    assert (statistics.listeners, statistics.packets_encoded) == (0, 0)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("audio")]


async def test_without_music_a_viewer_gets_its_picture_and_no_sound_packet(
    open_program: Open, new_receiver: Any, library: Library
) -> None:
    hand = await open_program(music=library)
    receiver = new_receiver()
    ear = Ear(receiver)
    await receiver.watch(hand.program)
    indices = [(await receiver.marked())[0] for _ in range(24)]
    assert indices == hand.sent_from(indices[0], 24)
    assert ear.wire_timestamps == []
    assert hand.program.audio_statistics().packets_encoded == 0
    hand.program.play("low", 1.0)
    await ear.hears(lambda heard: loudness(heard) > 0.1)


async def test_one_encode_serves_all_who_hear(open_program: Open, new_receiver: Any, library: Library) -> None:
    hand = await open_program(music=library)
    hand.program.play("low", 1.0)
    ears = []
    for _ in range(3):
        receiver = new_receiver()
        ears.append(Ear(receiver))
        await receiver.watch(hand.program)
    for ear in ears:
        await ear.hears(lambda heard: loudness(heard) > 0.1)
    most = max(len(ear.wire_timestamps) for ear in ears)
    statistics = hand.program.audio_statistics()
    assert statistics.listeners == 3
    assert most <= statistics.packets_encoded < 2 * most + 20


async def test_music_that_fails_is_reported_once_and_other_music_can_follow(
    open_program: Open, new_receiver: Any, library: Library
) -> None:
    class Failing(Click):
        def read(self, num_samples: int) -> Samples:
            raise MusicError("piece.mp3 has become unreadable")

    failures: list[str] = []
    listed = ListedMusic(Failing())
    listed._files = library._files
    hand = await open_program(music=listed, on_music_failed=failures.append)
    receiver = new_receiver()
    ear = Ear(receiver)
    hand.program.play("piece", 1.0)
    await receiver.watch(hand.program)
    await receiver.marked()
    async with asyncio.timeout(PATIENCE_S):
        while not failures:
            await receiver.marked()
    assert failures == ["piece.mp3 has become unreadable"]
    hand.program.play("low", 1.0)
    await ear.hears(lambda heard: loudness(heard) > 0.1)
    assert len(failures) == 1
    listed.close()


async def test_a_closed_program_leaves_no_thread_task_or_file_of_its_sound(
    open_program: Open, new_receiver: Any, library: Library
) -> None:
    gc.collect()
    files = set(Path("/proc/self/fd").iterdir())
    hand = await open_program(music=library)
    receiver = new_receiver()
    ear = Ear(receiver)
    hand.program.play("low", 1.0)
    await receiver.watch(hand.program)
    await ear.hears(lambda heard: loudness(heard) > 0.1)
    await receiver.close()
    await hand.program.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("audio")]
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "audio"]
    gc.collect()
    left = {str(path.readlink()) for path in set(Path("/proc/self/fd").iterdir()) - files if path.is_symlink()}
    assert not [name for name in left if name.endswith(".wav")]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda sdp: sdp, True),
        (lambda sdp: sdp.replace("a=recvonly", "a=sendrecv"), True),
        (lambda sdp: sdp.replace("a=recvonly", "a=sendonly"), False),
        (lambda sdp: sdp.replace("a=recvonly", "a=inactive"), False),
        (lambda sdp: sdp.replace("m=audio 9", "m=audio 0"), False),
        (lambda sdp: sdp.replace("opus", "G722"), False),
        (lambda sdp: sdp.replace("m=audio", "m=video"), False),
    ],
)
def test_only_offers_that_can_receive_opus_get_sound(change: Callable[[str], str], wanted: bool) -> None:
    sdp = (
        "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
        "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=recvonly\r\na=rtpmap:111 opus/48000/2\r\n"
    )
    assert wants_audio(SessionDescription.parse(change(sdp))) is wanted
