"""A WebSocket controller for benches: sends messages, waits for answers, and keeps the ends of each prompt."""

from __future__ import annotations

import json
from typing import Any

from websockets.asyncio.client import ClientConnection

END_TYPES = frozenset(f"prompt.{end}" for end in ("applied", "superseded", "cancelled", "rejected", "failed"))


class Controller:
    """A WebSocket controller that keeps the newest figures and returns the other messages."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.stats: dict[str, Any] = {}
        self.ends: dict[str, list[str]] = {}

    async def send(self, **message: Any) -> None:
        await self._connection.send(json.dumps(message))

    async def until(self, kind: str, **fields: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The first message of this kind with these fields, and all messages before it."""
        before: list[dict[str, Any]] = []
        async for text in self._connection:
            message = json.loads(text)
            if message["type"] == "stats.updated":
                self.stats = message
            if message["type"] in END_TYPES:
                self.ends.setdefault(message["prompt_id"], []).append(message["type"])
            if message["type"] == "error":
                raise RuntimeError(f"the server answered {message['error']}")
            if message["type"] == kind and fields.items() <= message.items():
                return message, before
            before.append(message)
        raise RuntimeError("the server closed the connection")
