"""Twitch's chat: IRC over TLS; writing needs a token. Pure parsing, and a client on the event loop.

See dev.twitch.tv/docs/chat/irc. Without a token we read as `justinfan…`, Twitch's name for anonymous readers, and say
nothing. The client reconnects by itself, with full jitter.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from examples.stream_chat.lines import ChatLine

_log = logging.getLogger(__name__)

HOST, PORT = "irc.chat.twitch.tv", 6697
FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 60.0
# Twitch pings about every five minutes, so this much silence means a dead link.
SILENCE_S = 400.0
MAX_LINE_BYTES = 16 * 1024
# Users who are no moderators may send 20 messages in 30 s. If more than `MAX_WAITING` wait, the oldest are dropped.
MESSAGE_GAP_S = 1.5
MAX_WAITING = 10
MAX_MESSAGE_CHARACTERS = 450


class LoginRefused(Exception):
    """Twitch refuses the token."""


@dataclass(frozen=True, slots=True)
class IrcMessage:
    """One line of IRC (RFC 1459, 2.3.1) with Twitch's tags (IRCv3)."""

    command: str
    parameters: tuple[str, ...] = ()
    nick: str = ""
    tags: dict[str, str] = field(default_factory=dict)


_LINE = re.compile(r"(?:@(?P<tags>\S*) +)?(?::(?P<prefix>\S*) +)?(?P<command>\S+)(?P<parameters>.*)")
_ESCAPES = {r"\:": ";", r"\s": " ", r"\\": "\\", r"\r": "\r", r"\n": "\n"}


def parse(line: str) -> IrcMessage | None:
    """The message in a line; None if the line is no message."""
    found = _LINE.fullmatch(line.strip("\r\n"))
    if found is None:
        return None
    middle, colon, trailing = found["parameters"].partition(" :")
    parameters = (*middle.split(), trailing) if colon else tuple(middle.split())
    tags = dict(_tag(part) for part in (found["tags"] or "").split(";") if part)
    return IrcMessage(found["command"].upper(), parameters, (found["prefix"] or "").partition("!")[0], tags)


def _tag(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return name, re.sub(r"\\.", lambda escape: _ESCAPES.get(escape.group(), escape.group()[1:]), value)


def chat_line(message: IrcMessage) -> ChatLine | None:
    """The chat line of a user's message; None for other messages."""
    if message.command != "PRIVMSG" or len(message.parameters) != 2 or not message.nick:
        return None
    badges = {badge.partition("/")[0] for badge in message.tags.get("badges", "").split(",")}
    is_moderator = message.tags.get("mod") == "1" or bool(badges & {"broadcaster", "moderator"})
    return ChatLine(message.nick, message.parameters[1], is_moderator)


class TwitchChat:
    """One channel. `run` reads until it is cancelled; `say` may be called at any time."""

    def __init__(
        self,
        channel: str,
        hear: Callable[[ChatLine], Awaitable[None]],
        *,
        nick: str | None = None,
        token: str | None = None,
        host: str = HOST,
        port: int = PORT,
        uses_tls: bool = True,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        if not re.fullmatch(r"#?\w{1,25}", channel) or not re.fullmatch(r"\w{1,25}", nick or "x"):
            raise ValueError(f"expected the names of a Twitch channel and a user, got {channel!r} and {nick!r}")
        if token and (not nick or not re.fullmatch(r"[!-~]+", token)):
            raise ValueError("a token needs the name of its user, and has no spaces")
        self._channel = "#" + channel.removeprefix("#").lower()
        self._hear = hear
        self._nick = nick if token and nick else f"justinfan{random.randrange(10_000, 99_999)}"
        self._token = token
        self._host, self._port, self._uses_tls = host, port, uses_tls
        self._sleep, self._chance = sleep, chance
        self._waiting: deque[str] = deque(maxlen=MAX_WAITING)
        self._has_waiting = asyncio.Event()
        self._num_attempts = 0

    def say(self, text: str) -> None:
        """Queues a text for the channel. Does nothing without a token."""
        if self._token:
            self._waiting.append(" ".join(text.split())[:MAX_MESSAGE_CHARACTERS])
            self._has_waiting.set()

    async def run(self) -> None:
        """Raises `LoginRefused`; reconnects after any other error."""
        while True:
            try:
                await self._converse()
            except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as trouble:
                _log.warning("- ! the chat of %s is lost: %s", self._channel, trouble or type(trouble).__name__)
            longest_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2**self._num_attempts)
            self._num_attempts = min(self._num_attempts + 1, 10)
            await self._sleep(self._chance() * longest_s)

    async def _converse(self) -> None:
        """One connection, until Twitch ends it."""
        context = ssl.create_default_context() if self._uses_tls else None
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection(self._host, self._port, ssl=context, limit=MAX_LINE_BYTES)
        speaker = asyncio.create_task(self._speak(writer), name="twitch-speaker")
        try:
            self._greet(writer)
            while True:
                async with asyncio.timeout(SILENCE_S):
                    line = await reader.readuntil(b"\n")
                if not await self._receive(line.decode("utf-8", "replace"), writer):
                    return
        finally:
            speaker.cancel()
            await asyncio.wait([speaker])
            writer.close()

    def _greet(self, writer: asyncio.StreamWriter) -> None:
        words = ["CAP REQ :twitch.tv/tags twitch.tv/commands"]
        words += [f"PASS oauth:{self._token.removeprefix('oauth:')}"] if self._token else []
        words += [f"NICK {self._nick}", f"JOIN {self._channel}"]
        writer.write("".join(f"{word}\r\n" for word in words).encode())

    async def _receive(self, line: str, writer: asyncio.StreamWriter) -> bool:
        """False if Twitch wants us to come back on another connection."""
        message = parse(line)
        match message:
            case IrcMessage(command="PING"):
                writer.write(f"PONG :{message.parameters[-1] if message.parameters else ''}\r\n".encode())
            case IrcMessage(command="RECONNECT"):
                return False
            case IrcMessage(
                command="NOTICE", parameters=(*_, "Login authentication failed" | "Improperly formatted auth")
            ):
                raise LoginRefused("Twitch does not take the token: it is wrong, or has run out")
            case IrcMessage(command="001"):
                self._num_attempts = 0
                _log.info("- = in the chat of %s as %s", self._channel, self._nick)
            case IrcMessage():
                said = chat_line(message)
                if said is not None:
                    await self._hear(said)
        return True

    async def _speak(self, writer: asyncio.StreamWriter) -> None:
        while True:
            while not self._waiting:
                self._has_waiting.clear()
                await self._has_waiting.wait()
            writer.write(f"PRIVMSG {self._channel} :{self._waiting.popleft()}\r\n".encode())
            await self._sleep(MESSAGE_GAP_S)
