"""Sceneshift for Python: a live video stage in a few lines, async or blocking. See docs/python.md.

    async with connect("http://127.0.0.1:8080") as session:
        handle = await session.prompt("a red sailboat at sunset")
        print(await handle.picture)

Imports `msgspec` and `websockets`, and nothing of the server.
"""

from sceneshift.blocking import BlockingPrompt, BlockingSession, connect_sync
from sceneshift.conversation import State
from sceneshift.errors import NotShown, Refused, SceneshiftError, SessionLost, Unreachable
from sceneshift.prompt import Prompt
from sceneshift.session import Pace, Session, connect

__all__ = [
    "BlockingPrompt",
    "BlockingSession",
    "NotShown",
    "Pace",
    "Prompt",
    "Refused",
    "SceneshiftError",
    "Session",
    "SessionLost",
    "State",
    "Unreachable",
    "connect",
    "connect_sync",
]
