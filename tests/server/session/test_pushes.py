"""Music and pushes, through a session and through the whole server, and the operator's settings for them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from fakes import SessionHarness, error_code, only, types
from ingest import Ingest
from sounds import tone, write_wav
from websockets.asyncio.client import connect

from engine.synthetic import SyntheticEngine
from server import app as server_app
from server.config import ConfigError, Settings, WhipTarget, load

TOKEN = "very-secret-token"
MakeHarness = Callable[..., SessionHarness]


# --- music in a session ---------------------------------------------------------------------------------------------


async def test_a_session_is_silent_unless_it_asks_for_music(make_harness: MakeHarness) -> None:
    harness = make_harness()
    await harness.session.open()
    assert harness.program.played == [(None, 0.5)]
    harness = make_harness(music="calm", music_volume=0.8)
    await harness.session.open()
    assert harness.program.played == [("calm", 0.8)]


async def test_music_and_volume_change_while_the_show_is_on(harness: SessionHarness) -> None:
    updated = only(await harness.say("session.update", music="waves"), "session.updated")
    assert (updated["options"]["music"], updated["options"]["music_volume"]) == ("waves", 0.5)
    await harness.say("session.update", music_volume=0)
    await harness.say("session.update", music=None)
    assert harness.program.played == [("waves", 0.5), ("waves", 0.0), (None, 0.0)]


@pytest.mark.parametrize("music", ["nothing-like-it", "../waves", "/etc/passwd", "waves.wav"])
async def test_unknown_music_is_refused_with_the_known_names_and_changes_nothing(
    harness: SessionHarness, music: str
) -> None:
    error = only(await harness.say("session.update", music=music, take="manual", event_id="e1"), "error")["error"]
    assert (error["code"], error["param"], error["event_id"]) == ("invalid_value", "music", "e1")
    assert "calm, waves" in error["message"]
    assert harness.session.options.take == "auto"
    assert harness.program.played == []


@pytest.mark.parametrize("volume", [-0.1, 1.1])
async def test_a_volume_lies_between_0_and_1(harness: SessionHarness, volume: float) -> None:
    from server.protocol.errors import MessageError  # noqa: PLC0415

    with pytest.raises(MessageError) as caught:
        await harness.say("session.update", music_volume=volume)
    assert (caught.value.detail.code, caught.value.detail.param) == ("invalid_value", "music_volume")


async def test_failed_music_is_reported_and_removed_from_the_options(harness: SessionHarness) -> None:
    await harness.say("session.update", music="waves")
    harness.program.lose_music("waves.wav has become unreadable")
    warning = only(await harness.hear(), "session.warning")
    assert warning["code"] == "music_failed" and "waves.wav" in warning["message"]
    assert harness.session.options.music is None


async def test_a_prompt_may_not_change_the_music(harness: SessionHarness) -> None:
    from server.protocol.errors import MessageError  # noqa: PLC0415

    with pytest.raises(MessageError) as caught:
        await harness.say("prompt.set", text="sea", music="calm")
    assert caught.value.detail.code == "unknown_field"


async def test_an_unknown_target_is_refused_with_the_known_names(harness: SessionHarness) -> None:
    for target in ("nowhere", "https://ingest.example/whip"):
        said = await harness.say("program.push", target=target, push=True)
        assert error_code(said) == "invalid_value"
        assert only(said, "error")["error"]["param"] == "target"
    assert types(await harness.hear()) == []


# --- through the whole server ---------------------------------------------------------------------------------------


class Controller:
    def __init__(self, socket: Any) -> None:
        self.socket = socket

    async def say(self, kind: str, **fields: object) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def hear(self, kind: str, **fields: object) -> dict[str, Any]:
        """The next event of this type with these values."""
        while True:
            message = json.loads(await self.socket.recv())
            assert message["type"] != "error" or kind == "error", message
            if message["type"] == kind and fields.items() <= message.items():
                return message


async def controller(stack: AsyncExitStack, settings: Settings) -> Controller:
    app = server_app.build(settings, SyntheticEngine())
    port = await stack.enter_async_context(server_app.running(app, server_app.listen("127.0.0.1", 0)))
    return Controller(await stack.enter_async_context(connect(f"ws://127.0.0.1:{port}/v1/realtime", max_size=None)))


async def test_a_controller_pushes_its_program_to_an_ingest_and_ends_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "server")
    write_wav(tmp_path / "waves.wav", tone(300, 2.0))
    async with AsyncExitStack() as stack:
        ingest = await stack.enter_async_context(Ingest(TOKEN))
        targets = (WhipTarget("ingest", ingest.url, TOKEN), WhipTarget("wrong", ingest.url, "wrong-token"))
        controls = await controller(stack, Settings(whip_targets=targets, music_folder=str(tmp_path)))
        await controls.say("session.start", marker=True, width=512, height=288, music="waves")
        created = await controls.hear("session.created")
        assert created["music"] == ["calm", "bright", "night", "waves"]
        assert created["push_targets"] == ["ingest", "wrong"]
        assert ingest.url not in json.dumps(created) and TOKEN not in json.dumps(created)
        await controls.say("program.push", target="ingest", push=True, event_id="e1")
        await controls.hear("push.changed", event_id="e1", target="ingest", state="connecting")
        await controls.hear("push.changed", event_id=None, target="ingest", state="live", detail=None)
        first = await ingest.marked()
        assert await ingest.marked() > first
        await ingest.frame("audio")
        await controls.say("program.push", target="ingest", push=True, event_id="e2")
        await controls.hear("push.changed", event_id="e2", state="live")
        await controls.say("program.push", target="wrong", push=True)
        failed = await controls.hear("push.changed", target="wrong", state="failed")
        assert "401" in failed["detail"]
        await controls.say("program.push", target="ingest", push=False, event_id="e3")
        await controls.hear("push.changed", event_id="e3", target="ingest", state="stopped")
        await ingest.deleted.wait()
        await controls.say("program.push", target="ingest", push=True)
        await controls.hear("push.changed", target="ingest", state="live")
        ingest.deleted.clear()
        await controls.say("session.close")
        await controls.hear("session.closed")
        await ingest.deleted.wait()
    assert TOKEN not in caplog.text and "secret-key" not in caplog.text and "wrong-token" not in caplog.text


async def test_a_resumed_controller_gets_the_running_pushes() -> None:
    async with AsyncExitStack() as stack:
        ingest = await stack.enter_async_context(Ingest(TOKEN))
        targets = tuple(WhipTarget(name, ingest.url, TOKEN) for name in ("ingest", "spare"))
        controls = await controller(stack, Settings(whip_targets=targets))
        await controls.say("session.start", width=512, height=288)
        created = await controls.hear("session.created")
        await controls.say("program.push", target="ingest", push=True)
        await controls.hear("push.changed", target="ingest", state="live")
        host, port, *_ = controls.socket.remote_address
        back = Controller(await stack.enter_async_context(connect(f"ws://{host}:{port}/v1/realtime", max_size=None)))
        named = {"session_id": created["session_id"], "resume_token": created["resume_token"]}
        await back.say("session.resume", last_seq=-1, event_id="r1", **named)
        await back.hear("session.created", event_id="r1")
        told = json.loads(await back.socket.recv())
        assert (told["type"], told["target"], told["state"]) == ("push.changed", "ingest", "live")
        await back.say("session.close")
        await back.hear("session.closed")


async def test_unknown_music_is_refused_at_the_start_and_the_connection_may_try_again() -> None:
    async with AsyncExitStack() as stack:
        controls = await controller(stack, Settings())
        await controls.say("session.start", music="waves")
        error = (await controls.hear("error"))["error"]
        assert (error["code"], error["param"]) == ("invalid_value", "music")
        await controls.say("session.start", music="calm")
        assert (await controls.hear("session.created"))["options"]["music"] == "calm"


# --- the operator's settings ----------------------------------------------------------------------------------------


def test_targets_come_from_a_file_or_from_the_settings_file(tmp_path: Path) -> None:
    table = '[{}tv]\nurl = "https://ingest.example/whip/key"\ntoken = "abc"\n[{}"my-mtx"]\nurl = "http://10.0.0.5:8889/a/whip"\n'
    (tmp_path / "targets.toml").write_text(table.format("", ""))
    (tmp_path / "all.toml").write_text("port = 1\n" + table.format("whip_targets.", "whip_targets."))
    expected = (
        WhipTarget("tv", "https://ingest.example/whip/key", "abc"),
        WhipTarget("my-mtx", "http://10.0.0.5:8889/a/whip", None),
    )
    assert load(["--whip-targets", str(tmp_path / "targets.toml")], {}).whip_targets == expected
    assert load([], {"SCENESHIFT_WHIP_TARGETS": str(tmp_path / "targets.toml")}).whip_targets == expected
    settings = load(["--config", str(tmp_path / "all.toml")], {})
    assert settings.whip_targets == expected
    assert "abc" not in repr(settings) and "key" not in repr(settings.whip_targets)


@pytest.mark.parametrize(
    "text",
    [
        'tv = "https://user:SECRET@ingest.example/"',
        '[tv]\nurl = "ftp://SECRET.example/"',
        '[tv]\nurl = "https://SECRET:port/"',
        '[tv]\nurl = "https://u:SECRET@ingest.example/"',
        '[tv]\nurl = 5\ntoken = "SECRET"',
        '[tv]\nurl = "https://ingest.example/"\ntoken = "SECRET\\n"',
        '[tv]\nurl = "https://ingest.example/"\npassword = "SECRET"',
        '["t v"]\nurl = "https://SECRET.example/"',
        "[tv",
    ],
)
def test_a_wrong_target_is_named_without_its_secrets(tmp_path: Path, text: str) -> None:
    (tmp_path / "targets.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(["--whip-targets", str(tmp_path / "targets.toml")], {})
    assert caught.value.setting == "whip_targets"
    assert "SECRET" not in str(caught.value)
