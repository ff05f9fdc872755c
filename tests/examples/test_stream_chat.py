"""The audience's bot: the meaning of chat lines, the order of wishes, and whole shows on the real server."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from engine.synthetic import Script, SyntheticEngine
from examples.stream_chat import lines, twitch
from examples.stream_chat.hook import Hook
from examples.stream_chat.lines import Approve, ChatLine, Scene, Vote
from examples.stream_chat.show import NEXT_STATES, Put, Rules, Say, SetBlank, Show, Wish, WishState
from examples.stream_chat.stage import ChatStage
from examples.stream_chat.twitch import IrcMessage, LoginRefused, TwitchChat
from sceneshift import Session, connect
from sceneshift.events import PromptApplied
from server import app as server_app
from server.config import Settings

SECRET = "a secret of the test's"


# --- chat lines ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, command",
    [
        ("!scene a red sailboat", Scene("a red sailboat")),
        ("  !SCENE   the \n sea\x07 ", Scene("the sea")),
        ("！场景海边日落", Scene("海边日落")),
        ("!场景 夜晚的雪山", Scene("夜晚的雪山")),
        ("!scene", Scene("")),
        ("!vote #2", Vote(2)),
        ("!投票 3", Vote(3)),
        ("!approve 4", Approve(4)),
        ("!vote for me", None),
        ("!vote ²", None),
        ("!scenery", None),
        ("!constructor", None),
        ("the !scene was nice", None),
        ("hello", None),
        ("", None),
    ],
)
def test_a_line_is_a_command_or_only_chat(text: str, command: lines.Command | None) -> None:
    assert lines.read(text) == command


def test_a_scene_is_cut_to_a_length() -> None:
    assert lines.read("!scene " + "x" * 900) == Scene("x" * lines.MAX_SCENE_CHARACTERS)


# --- the order of wishes ------------------------------------------------------------------------------------------


def ask(show: Show, user: str, text: str, now: float, *, moderator: bool = False) -> list[Any]:
    return show.hear(ChatLine(user, text, moderator), now)


def puts(actions: list[Any]) -> list[str]:
    return [action.text for action in actions if isinstance(action, Put)]


def says(actions: list[Any]) -> str:
    return " | ".join(action.text for action in actions if isinstance(action, Say))


def test_scenes_take_turns_with_a_pause_between() -> None:
    show = Show(Rules(cooldown_s=8))
    assert puts(ask(show, "ana", "!scene sea", 0)) == ["sea"]
    assert puts(ask(show, "bob", "!scene city", 1)) == []
    assert show.due_at(1) == 8
    assert puts(show.tick(7.9)) == []
    assert puts(show.tick(8)) == ["city"]
    assert show.due_at(8) is None


def test_a_user_waits_between_wishes_and_a_moderator_does_not() -> None:
    show = Show(Rules(user_cooldown_s=30, cooldown_s=0))
    ask(show, "ana", "!scene sea", 0)
    assert says(ask(show, "ana", "!scene city", 10.5)) == "@ana your next scene in 20 s"
    assert puts(ask(show, "bob", "!scene city", 10.5)) == ["city"]
    assert puts(ask(show, "ana", "!scene space", 30)) == ["space"]
    for now in (31, 32):
        assert puts(ask(show, "mod", "!scene forest", now, moderator=True)) == ["forest"]


def test_with_approval_no_wish_goes_on_without_a_moderator() -> None:
    show = Show(Rules(needs_approval=True))
    assert "waits for a moderator" in says(ask(show, "ana", "!scene sea", 0))
    assert ask(show, "bob", "!approve 1", 1) == []
    assert puts(ask(show, "mod", "!approve 1", 2, moderator=True)) == ["sea"]
    assert "does not wait" in says(ask(show, "mod", "!approve 1", 3, moderator=True))
    ask(show, "bob", "!scene city", 4)
    ask(show, "mod", "!reject 2", 5, moderator=True)
    assert puts(show.tick(100)) == [] and show.due_at(100) is None


def test_the_most_votes_win_and_only_the_last_of_a_user_counts() -> None:
    show = Show(Rules(vote_s=30, user_cooldown_s=0))
    ask(show, "ana", "!scene sea", 0)
    ask(show, "bob", "!scene city", 5)
    for user, number in (("c", 1), ("d", 1), ("c", 2), ("d", 2), ("e", 1), ("f", 99)):
        ask(show, user, f"!vote {number}", 10)
    assert show.votes() == {1: 1, 2: 2}
    assert show.due_at(10) == 30
    assert puts(show.tick(29.9)) == []
    actions = show.tick(30)
    assert puts(actions) == ["city"] and "#2 wins with 2 votes" in says(actions)
    assert not show.wishes(WishState.ON_BALLOT) and show.due_at(30) is None, "the outvoted are gone"


def test_in_a_tie_the_oldest_wins_and_the_rest_is_on_the_next_ballot() -> None:
    show = Show(Rules(vote_s=10, max_on_ballot=2, cooldown_s=0))
    for number, user in enumerate("abc"):
        ask(show, user, f"!scene {number}", 0)
    assert [wish.text for wish in show.wishes(WishState.ON_BALLOT)] == ["0", "1"]
    assert puts(show.tick(10)) == ["0"]
    assert [wish.text for wish in show.wishes(WishState.ON_BALLOT)] == ["2"]
    assert puts(show.tick(20)) == ["2"]


def test_a_rejected_wish_leaves_the_ballot() -> None:
    show = Show(Rules(vote_s=10))
    ask(show, "a", "!scene bad", 0)
    ask(show, "b", "!vote 1", 1)
    show.reject(1)
    assert puts(show.tick(10)) == []
    assert puts(ask(show, "c", "!scene good", 11)) == [] and puts(show.tick(21)) == ["good"]


def test_too_many_wishes_are_refused_with_a_reply() -> None:
    show = Show(Rules(max_waiting=2, needs_approval=True))
    for user in "abc":
        said = says(ask(show, user, "!scene sea", 0))
    assert "too many scenes" in said
    assert len(show.wishes(WishState.ASKED)) == 2


def test_only_a_moderator_may_blank_and_resume() -> None:
    show = Show(Rules())
    assert ask(show, "ana", "!blank", 0) == []
    assert ask(show, "mod", "!blank", 0, moderator=True) == [SetBlank(True)]
    assert ask(show, "mod", "!resume", 0, moderator=True) == [SetBlank(False)]


@pytest.mark.parametrize("state, next_state", list(itertools.product(WishState, WishState)))
def test_only_moves_of_the_table_are_allowed(state: WishState, next_state: WishState) -> None:
    wish = Wish(1, "ana", "sea", state)
    if next_state in NEXT_STATES[state]:
        wish.enter(next_state)
        assert wish.state is next_state
    else:
        with pytest.raises(RuntimeError, match="not a move"):
            wish.enter(next_state)


# --- Twitch -------------------------------------------------------------------------------------------------------

LINE = (
    r"@badges=moderator/1;display-name=Ana\sB;mod=1;odd=a\:b\\c "
    ":ana!ana@ana.tmi.twitch.tv PRIVMSG #show :!scene sea: calm"
)


def test_a_line_of_irc_is_read_with_its_tags() -> None:
    message = twitch.parse(LINE + "\r\n")
    assert message is not None
    assert (message.command, message.nick) == ("PRIVMSG", "ana")
    assert message.parameters == ("#show", "!scene sea: calm")
    assert (message.tags["display-name"], message.tags["odd"]) == ("Ana B", r"a;b\c")
    assert twitch.chat_line(message) == ChatLine("ana", "!scene sea: calm", is_moderator=True)
    assert twitch.parse("PING :tmi.twitch.tv") == IrcMessage("PING", ("tmi.twitch.tv",))
    assert twitch.parse("") is None


@pytest.mark.parametrize(
    "badges, is_moderator",
    [("broadcaster/1", True), ("subscriber/12", False), ("", False), ("moderator/1,vip/1", True)],
)
def test_moderators_wear_badges(badges: str, is_moderator: bool) -> None:
    message = IrcMessage("PRIVMSG", ("#show", "hi"), "ana", {"badges": badges})
    said = twitch.chat_line(message)
    assert said is not None and said.is_moderator is is_moderator


class Irc:
    """A chat server with the part of IRC that Twitch uses; a test is the other end of each connection."""

    def __init__(self) -> None:
        self.connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        await self.connections.put((reader, writer))

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()


async def until(reader: asyncio.StreamReader, start: str) -> str:
    """The next line with this beginning."""
    while not (line := (await reader.readuntil(b"\n")).decode().strip()).startswith(start):
        pass
    return line


@pytest.fixture
async def irc() -> AsyncIterator[Irc]:
    irc = Irc()
    yield irc
    await irc.close()


async def test_the_chat_is_read_answered_pinged_and_found_again(irc: Irc) -> None:
    heard: asyncio.Queue[ChatLine] = asyncio.Queue()
    port, delays = await irc.open(), []

    async def sleep(delay_s: float) -> None:
        delays.append(delay_s)
        await asyncio.sleep(0)

    chat = TwitchChat(
        "Show", heard.put, nick="bot", token="abc", host="127.0.0.1", port=port, uses_tls=False, sleep=sleep,
        chance=lambda: 1.0,
    )  # fmt: skip
    running = asyncio.create_task(chat.run())
    reader, writer = await irc.connections.get()
    assert await until(reader, "PASS") == "PASS oauth:abc"
    assert await until(reader, "JOIN") == "JOIN #show"
    writer.write(b"PING :tmi.twitch.tv\r\n" + LINE.encode() + b"\r\n")
    assert await until(reader, "PONG") == "PONG :tmi.twitch.tv"
    assert await heard.get() == ChatLine("ana", "!scene sea: calm", is_moderator=True)
    chat.say("#1 is\r\nPRIVMSG on air")
    assert await until(reader, "PRIVMSG") == "PRIVMSG #show :#1 is PRIVMSG on air"
    writer.write(b":tmi.twitch.tv RECONNECT\r\n")
    reader, writer = await irc.connections.get()
    await until(reader, "JOIN")
    writer.write(b":tmi.twitch.tv NOTICE * :Login authentication failed\r\n")
    with pytest.raises(LoginRefused):
        await running
    assert twitch.FIRST_DELAY_S in delays


async def test_without_a_token_the_chat_is_read_anonymously_and_not_written(irc: Irc) -> None:
    chat = TwitchChat("show", lambda line: asyncio.sleep(0), host="127.0.0.1", port=await irc.open(), uses_tls=False)
    chat.say("hello")
    running = asyncio.create_task(chat.run())
    reader, _ = await irc.connections.get()
    assert (await until(reader, "NICK")).startswith("NICK justinfan")
    await until(reader, "JOIN")
    running.cancel()
    await asyncio.wait([running])
    assert not chat._waiting


@pytest.mark.parametrize("channel, nick, token", [("a b", None, None), ("x\r\n", None, None), ("x", None, "abc")])
def test_invalid_names_raise_an_error(channel: str, nick: str | None, token: str | None) -> None:
    with pytest.raises(ValueError, match=r"expected|token"):
        TwitchChat(channel, lambda line: asyncio.sleep(0), nick=nick, token=token)


# --- on the real server -------------------------------------------------------------------------------------------


NOW = 1_800_000_000


def signed(body: bytes, sent_at: int = NOW) -> dict[str, str]:
    mac = hmac.new(SECRET.encode(), f"{sent_at}.".encode() + body, hashlib.sha256).hexdigest()
    return {"X-Time": str(sent_at), "X-Signature": f"sha256={mac}"}


class Studio:
    """The bot on the real server with the synthetic engine, and its hook on a port."""

    def __init__(self, session: Session, stage: ChatStage, http: aiohttp.ClientSession) -> None:
        self.session, self.stage, self.http = session, stage, http
        self.unix_time = float(NOW)
        self.hook: Hook

    async def post(self, body: object, **headers: str) -> tuple[int, Any]:
        headers = headers or {"Authorization": f"Bearer {SECRET}"}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.http.post("/chat", data=data, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None) if answer.status < 413 else None

    async def applied(self) -> str:
        """The next prompt that is on air."""
        async for event in self.session.events():
            if isinstance(event, PromptApplied):
                return event.prompt_id
        raise AssertionError("the session ended")


@pytest.fixture
async def studio(request: pytest.FixtureRequest) -> AsyncIterator[Studio]:
    rules: Rules = getattr(request, "param", Rules(user_cooldown_s=0, cooldown_s=0))
    async with AsyncExitStack() as stack:
        app = server_app.build(Settings(), SyntheticEngine(Script(step_s=0.01, decode_s=0.01)))
        port = await stack.enter_async_context(server_app.running(app, server_app.listen("127.0.0.1", 0)))
        session = await stack.enter_async_context(connect(f"http://127.0.0.1:{port}"))
        stage = ChatStage(Show(rules), session)
        hook = Hook(
            SECRET,
            hear=stage.hear,
            moderate=stage.moderate,
            state=stage.state,
            unix_time=lambda: studio.unix_time,
        )
        stage.on_change = hook.changed
        runner = web.AppRunner(hook.application())
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        running = asyncio.create_task(stage.run())
        stack.callback(running.cancel)
        http = await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}"))
        studio = Studio(session, stage, http)
        studio.hook = hook
        yield studio


async def test_a_line_in_the_chat_is_on_air(studio: Studio, irc: Irc) -> None:
    async def hear(line: ChatLine) -> None:
        await studio.stage.hear(line)

    chat = TwitchChat("show", hear, nick="bot", token="t", host="127.0.0.1", port=await irc.open(), uses_tls=False)
    studio.stage.say = chat.say
    running = asyncio.create_task(chat.run())
    reader, writer = await irc.connections.get()
    writer.write(LINE.encode() + b"\r\n")
    assert await studio.applied()
    assert await until(reader, "PRIVMSG") == "PRIVMSG #show :#1 by @ana is on air"
    running.cancel()


async def test_a_line_by_http_is_on_air(studio: Studio) -> None:
    assert await studio.post({"user": "ana", "text": "!scene 7"}) == (200, {"replies": []})
    assert await studio.applied()
    body = json.dumps({"user": "bob", "text": "!scene 8"}).encode()
    assert (await studio.post(body, **signed(body)))[0] == 200
    assert await studio.applied()


@pytest.mark.parametrize(("age_s", "status"), [(0, 200), (299, 200), (-299, 200), (301, 401), (-301, 401)])
async def test_a_signed_line_counts_once_and_for_five_minutes(studio: Studio, age_s: int, status: int) -> None:
    body = json.dumps({"user": "bob", "text": "hello"}).encode()
    headers = signed(body, NOW - age_s)
    assert (await studio.post(body, **headers))[0] == status
    again, told = await studio.post(body, **headers)
    assert again == 401
    assert "sent before" in told["error"] if status == 200 else "clock" in told["error"]
    assert (await studio.post(body, **signed(body, NOW - 7)))[0] == 200, "another one, of another time"


async def test_an_old_signature_is_forgotten_when_its_time_is_over(studio: Studio) -> None:
    body = json.dumps({"user": "bob", "text": "hello"}).encode()
    assert (await studio.post(body, **signed(body)))[0] == 200
    studio.unix_time = NOW + 301.0
    assert (await studio.post(body, **signed(body)))[0] == 401
    assert (await studio.post(body, **signed(body, NOW + 301)))[0] == 200
    assert len(studio.hook._old_at) == 1


async def test_more_signed_lines_than_are_remembered_are_refused(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("examples.stream_chat.hook.MAX_SIGNED", 2)
    bodies = [json.dumps({"user": "bob", "text": f"hello {number}"}).encode() for number in range(3)]
    assert [(await studio.post(body, **signed(body)))[0] for body in bodies] == [200, 200, 401]
    studio.unix_time = NOW + 301.0
    assert (await studio.post(bodies[2], **signed(bodies[2], NOW + 301)))[0] == 200


@pytest.mark.parametrize("sent_at", ["", "soon", "-1", "1e9", "9" * 20, "²"])
async def test_a_signed_line_needs_a_time(studio: Studio, sent_at: str) -> None:
    body = json.dumps({"user": "bob", "text": "hello"}).encode()
    mac = hmac.new(SECRET.encode(), sent_at.encode() + b"." + body, hashlib.sha256).hexdigest()
    status, told = await studio.post(body, **{"X-Signature": f"sha256={mac}", "X-Time": sent_at})
    assert status == 401 and "X-Time" in told["error"]
    mac = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()  # of the body alone
    assert (await studio.post(body, **{"X-Signature": f"sha256={mac}"}))[0] == 401


@pytest.mark.parametrize(
    "body, headers, status",
    [
        ({"user": "a", "text": "x"}, {"Authorization": "Bearer wrong"}, 401),
        ({"user": "a", "text": "x"}, {"X-Signature": "sha256=00"}, 401),
        ({"user": "a"}, {}, 400),
        ({"user": "a", "text": "x", "colour": 1}, {}, 400),
        ({"user": " ", "text": "x"}, {}, 400),
        (b"[", {}, 400),
        (b"[" * 8000, {}, 400),
        (b'{"x":' * 3000, {}, 400),
        (b'{"user": "a", "text": "b", "is_moderator": ' + b"[" * 8000, {}, 400),
        (b"x" * 20_000, {}, 413),
    ],
)
async def test_the_hook_refuses_invalid_requests(studio: Studio, body: Any, headers: Any, status: int) -> None:
    assert (await studio.post(body, **headers))[0] == status
    assert (await studio.post({"user": "ana", "text": "hello"}))[0] == 200


@pytest.mark.parametrize("first", [None, "[" * 8000, '{"secret":' * 1500, "{}"])
async def test_a_page_without_the_secret_is_closed(studio: Studio, first: str | None) -> None:
    if first is None:
        studio.hook._secret_timeout_s = 0.01
    async with studio.http.ws_connect("/moderate") as page:
        if first is not None:
            await page.send_str(first)
        closed = await page.receive()
        assert closed.data == 1008


@pytest.mark.parametrize("studio", [Rules(needs_approval=True, cooldown_s=0)], indirect=True)
async def test_a_moderator_approves_on_the_page(studio: Studio) -> None:
    async with studio.http.ws_connect("/moderate") as stranger:
        await stranger.send_json({"secret": "guess"})
        assert (await stranger.receive()).data == 1008
    await studio.post({"user": "ana", "text": "!scene 7"})
    async with studio.http.ws_connect("/moderate") as page:
        await page.send_json({"secret": SECRET})
        state = await page.receive_json()
        assert state["asked"] == [{"number": 1, "user": "ana", "text": "7", "votes": 0}]
        await page.send_str("nonsense")
        await page.send_str("[" * 8000)
        await page.send_json({"approve": 1})
        assert await studio.applied()
        assert (await page.receive_json())["on_stage"]["text"] == "7"
