"""Recording a show: the file on disk, the controller's messages, and a show that goes on if the disk fails."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
from fakes import SessionHarness
from serving import Controller, number, serving
from sounds import tone, write_wav

from bench.parts.served import served
from engine.synthetic import Script, SyntheticEngine
from server.media.mp4.recording import RecordingFailed, RecordingLimits
from server.media.video import marker
from server.media.video.encoder import Encoder
from server.protocol.errors import Refused
from server.protocol.messages import SessionOptions, SessionResume
from server.session.recordings import Recordings, share_of
from server.store.keys import MAIN


async def record(controller: Controller, recording: bool) -> dict[str, Any]:
    await controller.say("program.record", recording=recording)
    return await controller.hear("recording.changed", "error")


def film(path: Path) -> tuple[list[Any], float]:
    """The decoded frames and the duration in seconds."""
    with av.open(path) as container:
        return list(container.decode(video=0)), (container.duration or 0) / 1e6


async def test_a_recording_over_two_takes_shows_both_and_counts_as_no_viewer(tmp_path: Path) -> None:
    async with serving(recordings_folder=str(tmp_path)) as server:
        controller = await server.controller(marker=True)
        begun = await record(controller, True)
        assert begun["recording"] and begun["error"] is None
        assert (await record(controller, True))["name"] == begun["name"]  # it runs already
        first, second = await controller.apply("scene 5"), await controller.apply("scene 9")
        stats = await controller.hear("stats.updated")
        assert stats["viewers"] == 0 and stats["frames_sent"] > 0 and stats["bitrate"] == 0
        ended = await record(controller, False)
        assert not ended["recording"] and ended["name"] == begun["name"]

        path = tmp_path / begun["name"]
        frames, duration_s = film(path)
        seen = {marker.read(frame.to_ndarray(format="yuv420p")): number(frame) for frame in frames}
        assert seen[first["frame"]["frame_index"]] == 5 and seen[second["frame"]["frame_index"]] == 9
        assert duration_s == pytest.approx(ended["duration_s"], abs=0.002)
        assert ended["size_bytes"] == path.stat().st_size

        async with server.http.get(ended["url"]) as response:
            whole = await response.read()
            assert (response.status, response.content_type) == (200, "video/mp4")
        assert whole == path.read_bytes()
        async with server.http.get(ended["url"], headers={"Range": "bytes=10-19"}) as response:
            assert (response.status, await response.read()) == (206, whole[10:20])
        another = await record(controller, True)
        assert another["name"] != begun["name"]
        await controller.say("session.close")
        assert (await controller.hear("recording.changed", "session.closed"))["name"] == another["name"]
        async with server.http.get(ended["url"]) as response:  # recordings outlive their session
            assert await response.read() == whole


def heard_packets(program: Any) -> int:
    sound = program.audio_statistics()
    return sound.packets_encoded - sound.packets_skipped


async def test_a_recording_has_the_music_of_the_show(tmp_path: Path) -> None:
    write_wav(tmp_path / "hum.wav", tone(440.0, 1.0))  # a file plays at once; an included loop is computed first
    async with serving(recordings_folder=str(tmp_path), music_folder=str(tmp_path)) as server:
        controller = await server.controller(width=320, height=192, music="hum", music_volume=1.0)
        begun = await record(controller, True)
        program = server.registry.find(controller.session_id, None).program
        while heard_packets(program) < 75:  # music that comes late is left out, on a busy machine
            await controller.hear("stats.updated")
        ended = await record(controller, False)
    with av.open(tmp_path / begun["name"]) as container:
        sound = [frame.to_ndarray() for frame in container.decode(audio=0)]
    assert len(sound) == pytest.approx(ended["duration_s"] * 50, abs=1)
    assert max(float(np.abs(part).max()) for part in sound) > 0.01


async def test_a_scene_goes_on_while_it_is_recorded(tmp_path: Path) -> None:
    engine = SyntheticEngine(Script(step_s=0.01, decode_s=0.01, num_frames=7, can_start_from_frame=True))
    async with serving(engine, recordings_folder=str(tmp_path)) as server:
        controller = await server.controller(after="continue", width=320, height=192)
        await record(controller, True)
        await controller.apply("scene 3")
        assert (await controller.hear("prompt.continued"))["index"] == 1


async def test_a_killed_server_leaves_a_file_that_plays(tmp_path: Path) -> None:
    async with served(["--engine", "synthetic", "--recordings-folder", str(tmp_path)]) as server:
        async with aiohttp.ClientSession(server.url) as http:
            controller = Controller(http, await http.ws_connect("/v1/realtime"))
            await controller.start(width=512, height=288, marker=True)
            await record(controller, True)
            while (stats := await controller.hear("stats.updated"))["frames_sent"] < 60:
                pass
            os.kill(server.pid, signal.SIGKILL)
            async for _ in controller.socket:
                pass  # until the connection breaks
    (path,) = tmp_path.iterdir()
    frames, duration_s = film(path)
    numbers = [marker.read(frame.to_ndarray(format="yuv420p")) for frame in frames]
    assert None not in numbers and numbers == sorted(set(numbers), key=lambda index: index or 0)
    num_frames = numbers[-1] - numbers[0] + 1  # type: ignore[operator]
    assert num_frames >= stats["frames_sent"] - 36  # the last second, and frames sent while the message was on its way
    assert duration_s == pytest.approx(num_frames / 24, abs=0.05)


async def test_an_unwritable_folder_is_reported_and_the_show_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with serving(recordings_folder=str(tmp_path / "file" / "folder")) as server:
        controller = await server.controller(width=320, height=192)
        changed = await record(controller, True)
        assert not changed["recording"] and changed["name"] is None
        assert changed["error"]["code"] == "recording_failed"
        assert str(tmp_path) not in changed["error"]["message"]
        await controller.apply("scene 1")
        async with server.http.get("/metrics") as response:
            assert "sceneshift_recordings_failed_total 1.0" in await response.text()


@pytest.mark.parametrize("recording", [True, False])
async def test_a_server_without_a_folder_names_the_flag(recording: bool) -> None:
    async with serving() as server:
        refused = await record(await server.controller(width=320, height=192), recording)
        assert refused["error"]["code"] == "not_supported" and "--recordings-folder" in refused["error"]["message"]
    for off in ("max_recording_size", "max_recordings_size"):
        async with serving(recordings_folder="x", **{off: 0}) as server:
            assert (await record(await server.controller(width=320, height=192), True))["type"] == "error"


async def test_a_recording_is_refused_when_all_together_are_too_large(tmp_path: Path) -> None:
    (tmp_path / "yesterday.mp4").write_bytes(bytes(1000))
    async with serving(recordings_folder=str(tmp_path), max_recordings_size=1000) as server:
        changed = await record(await server.controller(width=320, height=192), True)
        assert not changed["recording"] and changed["error"]["code"] == "recording_failed"
        assert "--max-recordings-size" in changed["error"]["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["yesterday.mp4"]


async def test_only_recordings_of_the_session_can_be_fetched(tmp_path: Path) -> None:
    (tmp_path / "diary.mp4").write_bytes(b"private")
    async with serving(recordings_folder=str(tmp_path), token="0123456789abcdef0123") as server:
        controller = await server.controller(token="0123456789abcdef0123", width=320, height=192)
        begun = await record(controller, True)
        query = "?token=0123456789abcdef0123"
        for name in ("diary.mp4", "..%2fdiary.mp4", "%2e%2e%2f" + begun["name"]):
            async with server.http.get(controller.path(f"recordings/{name}{query}")) as response:
                assert (response.status, (await response.json())["error"]["code"]) == (404, "unknown_recording")
        async with server.http.get(f"/v1/sessions/other/recordings/{begun['name']}{query}") as response:
            assert response.status == 404
        async with server.http.get(begun["url"]) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (401, "unauthorized")


# --- with a fake program --------------------------------------------------------------------------------------------


@pytest.fixture
def harness(tmp_path: Path) -> SessionHarness:
    limits = RecordingLimits(max_bytes=60_000, min_free_bytes=0, min_free_share=0.0)
    recordings = Recordings(tmp_path, limits, local_time=lambda: "20261124-201503")
    return SessionHarness(SessionOptions(width=256, height=144), recordings=recordings)


def play(harness: SessionHarness, num_frames: int) -> None:
    encoder, noise = Encoder(harness.program.fanout.best, 24), np.random.default_rng(1)
    for index in range(num_frames):
        planes = noise.integers(0, 255, (216, 256), dtype=np.uint8)
        frame = encoder.encode(planes, index, is_keyframe=index % 24 == 0)
        harness.program.fanout.put({harness.program.fanout.best: frame})


async def test_a_resumed_controller_learns_of_a_recording(harness: SessionHarness) -> None:
    (begun,) = await harness.say("program.record", recording=True)
    harness.session.detach(harness.controller)
    message = SessionResume(session_id="s1", resume_token=harness.session.resume_token)
    harness.session.take_up(harness.controller, message)
    changed = (await harness.hear())[-1]
    assert changed["type"] == "recording.changed" and changed["recording"] and changed["name"] == begun["name"]
    await harness.session.close("client")


async def test_a_recording_that_ends_by_itself_says_why_and_another_may_begin(
    harness: SessionHarness, tmp_path: Path
) -> None:
    (begun,) = await harness.say("program.record", event_id="e1", recording=True)
    assert begun["name"] == "s1-20261124-201503-1.mp4"
    play(harness, 40)
    text = await harness.session.outbox.next_text()
    assert text is not None and '"recording_failed"' in text and '"recording":false' in text
    assert not harness.session.is_recording and harness.program.fanout.num_takers == 0
    (tmp_path / "s1-20261124-201503-2.mp4").touch()  # another file: never overwritten
    (again,) = await harness.say("program.record", event_id="e2", recording=True)
    assert again["name"] == "s1-20261124-201503-3.mp4"
    await harness.session.close("client")


async def test_a_retry_begins_no_second_recording(harness: SessionHarness, tmp_path: Path) -> None:
    (begun,) = await harness.say("program.record", event_id="e1", recording=True)
    assert begun["event_id"] == "e1"
    await harness.say("program.record", event_id="e1", recording=True)
    assert [path.name for path in tmp_path.iterdir()] == [begun["name"]]
    (ended,) = await harness.say("program.record", event_id="e2", recording=False)
    assert not ended["recording"] and not harness.session.is_recording
    await harness.session.close("client")


async def test_a_closing_session_ends_its_recording_before_session_closed(harness: SessionHarness) -> None:
    await harness.say("program.record", recording=True)
    play(harness, 30)
    await asyncio.gather(harness.session.close("client"), harness.session.close("client"))
    kinds = [message["type"] for message in await harness.hear()]
    assert kinds == ["recording.changed", "session.closed"]
    for thread in threading.enumerate():
        if thread.name.startswith("recording"):
            thread.join(timeout=5)
            assert not thread.is_alive()


def test_only_the_newest_names_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.session.recordings.MAX_KNOWN", 2)
    recordings = Recordings(tmp_path)
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / name).touch()
        recordings.remember("a", "s1", tmp_path / name)
    assert recordings.find("a", "s1", "b.mp4") == tmp_path / "b.mp4"
    with pytest.raises(Refused):
        recordings.find("a", "s1", "a.mp4")


def test_a_file_name_is_safe_for_every_session_name(tmp_path: Path) -> None:
    recordings = Recordings(tmp_path, local_time=lambda: "20261124-201503")
    assert recordings.new_path("../x y/", 1, share_of(MAIN)) == tmp_path / "---x-y--20261124-201503-1.mp4"
    assert recordings.new_path("x.a", 1, share_of("a1")) == tmp_path / "x-a-20261124-201503-1.a1.mp4"


def test_a_customers_files_count_over_restarts_and_only_for_the_customer(tmp_path: Path) -> None:
    for name, num_bytes in (("x-1.a1.mp4", 10), ("y-1.a1.mp4", 5), ("a1-2.mp4", 70), ("z.a1.txt", 900)):
        (tmp_path / name).write_bytes(bytes(num_bytes))
    recordings = Recordings(tmp_path)
    assert [recordings.stored_bytes(tenant) for tenant in ("a1", "b2", MAIN)] == [15, 0, 85]
    with pytest.raises(RecordingFailed, match="stored_bytes"):
        recordings.folder.take(1, share_of("a1", 16))
    recordings.folder.take(1, share_of("b2", 16))
    (tmp_path / "x-1.a1.mp4").unlink()
    recordings.folder.take(1, share_of("a1", 16))
    assert Recordings(None).stored_bytes("a1") == Recordings(tmp_path / "none").stored_bytes("a1") == 0
