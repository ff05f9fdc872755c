"""The shell around `show.Show`: its clock, its stage, and the chats that it answers. Runs on one event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from examples.stream_chat.lines import ChatLine
from examples.stream_chat.show import Action, Put, Say, SetBlank, Show, WishState
from sceneshift import NotShown, Refused, SceneshiftError, Session

_log = logging.getLogger(__name__)


class ChatStage:
    """Wishes in, scenes and replies out. `run` keeps the time until it is cancelled."""

    def __init__(
        self,
        show: Show,
        session: Session,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._show = show
        self._session = session
        self._now = now
        self._changed = asyncio.Event()
        self._following: set[asyncio.Task[None]] = set()
        self._on_stage: Put | None = None
        self.say: Callable[[str], None] = lambda text: None  # into every chat that can be written to
        self.on_change: Callable[[], Awaitable[None]] | None = None

    async def hear(self, line: ChatLine) -> list[str]:
        """Takes one chat line. Returns the replies, which were also said in the chats."""
        return await self._do(self._show.hear(line, self._now()))

    async def moderate(self, verb: str, number: int) -> None:
        """From the moderator's page: `approve` or `reject`."""
        if verb == "approve":
            await self._do(self._show.approve(number, self._now()))
        else:
            await self._do(self._show.reject(number))

    async def run(self) -> None:
        """Calls the show's `tick` whenever it is due. If cancelled, stops following its prompts."""
        try:
            while True:
                self._changed.clear()
                due_at = self._show.due_at(self._now())
                timeout_s = None if due_at is None else max(0.0, due_at - self._now())
                try:
                    async with asyncio.timeout(timeout_s):
                        await self._changed.wait()
                except TimeoutError:
                    await self._do(self._show.tick(self._now()))
        finally:
            for task in self._following:
                task.cancel()

    def state(self) -> dict[str, Any]:
        """For the moderator's page."""
        votes = self._show.votes()

        def rows(state: WishState) -> list[dict[str, Any]]:
            return [
                {"number": wish.number, "user": wish.user, "text": wish.text, "votes": votes[wish.number]}
                for wish in self._show.wishes(state)
            ]

        on_stage = self._on_stage
        return {
            "asked": rows(WishState.ASKED),
            "waiting": rows(WishState.WAITING),
            "ballot": rows(WishState.ON_BALLOT),
            "next": rows(WishState.NEXT),
            "on_stage": on_stage and {"number": on_stage.number, "user": on_stage.user, "text": on_stage.text},
        }

    async def _do(self, actions: list[Action]) -> list[str]:
        said = []
        for action in actions:
            match action:
                case Say(text):
                    said.append(text)
                    self.say(text)
                case Put():
                    await self._put(action)
                case SetBlank(is_blank):
                    await (self._session.blank() if is_blank else self._session.resume())
        self._changed.set()
        if self.on_change is not None:
            await self.on_change()
        return said

    async def _put(self, put: Put) -> None:
        # A viewer's wish: under load the operator's own prompts come first.
        try:
            prompt = await self._session.prompt(put.text, audience=True)
        except SceneshiftError as error:
            _log.warning("- ! #%d could not be sent: %s", put.number, error)
            return
        self._on_stage = put

        async def follow() -> None:
            try:
                await prompt.picture
                self.say(f"#{put.number} by @{put.user} is on air")
            except NotShown as not_shown:
                _log.info("- = #%d was not shown: %s", put.number, not_shown)
            except Refused as refused:
                self.say(f"@{put.user} #{put.number} cannot be shown: {refused.message}")
            except SceneshiftError as error:
                _log.warning("- ! #%d: %s", put.number, error)

        task = asyncio.create_task(follow(), name=f"wish-{put.number}")
        self._following.add(task)
        task.add_done_callback(self._following.discard)
