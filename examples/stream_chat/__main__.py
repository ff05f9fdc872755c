"""`python -m examples.stream_chat --twitch CHANNEL`: opens a stage and lets the chat choose its scenes."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from examples.stream_chat.hook import Hook
from examples.stream_chat.lines import ChatLine
from examples.stream_chat.show import Rules, Show
from examples.stream_chat.stage import ChatStage
from examples.stream_chat.twitch import LoginRefused, TwitchChat
from sceneshift import SceneshiftError, SessionLost, connect


async def run(options: argparse.Namespace, announce: Callable[[str], None] = print) -> None:
    """Runs until it is cancelled. Raises `SceneshiftError`, `LoginRefused`, `OSError`."""
    rules = Rules(options.user_cooldown, options.cooldown, options.vote, options.approve)
    secret = os.environ.get("STREAM_CHAT_SECRET") or secrets.token_hex(16)
    async with connect(options.server, name=options.name, patience_s=60.0) as session:
        stage = ChatStage(Show(rules), session)
        hook = Hook(secret, hear=stage.hear, moderate=stage.moderate, state=stage.state)
        stage.on_change = hook.changed
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stage.run(), name="show")
            if options.twitch:
                tasks.create_task(_twitch(options, stage).run(), name="twitch")
            async with _serving(hook.application(), options.host, options.port) as port:
                address = f"http://{options.host}:{port}"
                announce(f"moderate at {address}/#secret={secret}")
                announce(f"other chats: POST {address}/chat")
                announce(f"for OBS, a browser source: {session.obs_url}")
                async for _ in session.events():
                    pass
                raise SessionLost("the stage was closed")


def _twitch(options: argparse.Namespace, stage: ChatStage) -> TwitchChat:
    async def hear(line: ChatLine) -> None:
        await stage.hear(line)

    nick, token = options.twitch_user, os.environ.get("TWITCH_TOKEN")
    chat = TwitchChat(options.twitch, hear, nick=nick, token=token)
    stage.say = chat.say
    return chat


@contextlib.asynccontextmanager
async def _serving(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serves while the block runs; gives the port."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.stream_chat",
        description=__doc__,
        epilog="TWITCH_TOKEN lets the bot answer in the chat; STREAM_CHAT_SECRET is for the hook and the page.",
    )
    parser.add_argument(
        "--server", help="the Sceneshift server, with #token=… (default: this machine, and its own token)"
    )
    parser.add_argument("--name", help="the stage's name, so that its OBS address stays the same")
    parser.add_argument("--twitch", metavar="CHANNEL", help="read this Twitch channel's chat")
    parser.add_argument("--twitch-user", metavar="NAME", help="the user of TWITCH_TOKEN")
    parser.add_argument("--host", default="127.0.0.1", help="of the hook and the moderator's page")
    parser.add_argument("--port", type=int, default=8091)
    parser.add_argument("--user-cooldown", type=float, default=30.0, help="seconds between two wishes of one user")
    parser.add_argument("--cooldown", type=float, default=8.0, help="seconds between two scenes")
    parser.add_argument("--vote", type=float, default=0.0, metavar="SECONDS", help="how long the audience votes")
    parser.add_argument("--approve", action="store_true", help="a moderator approves each scene first")
    return parser


def main(argv: list[str] | None = None) -> int:
    options = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    failed = False
    try:
        asyncio.run(run(options))
    except* KeyboardInterrupt:
        pass
    except* (SceneshiftError, LoginRefused, OSError, ValueError) as group:
        failed = True
        for error in group.exceptions:
            print(f"stream_chat: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
