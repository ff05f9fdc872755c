"""One session's pushes: starts and stops sending its program to ingests. Clients choose the operator's targets by name.

Between `session.py`, which owns it, and `media.webrtc.whip`, which keeps one connection for each push. All on the event
loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from server.clock import Clock
from server.config import WhipTarget
from server.media.webrtc.whip import Push, PushState
from server.protocol.errors import Refused
from server.protocol.messages import ProgramPush, PushChanged
from server.session.neighbours import SessionProgram


class Pushes:
    """See the module. `on_changed` gets each change that a push makes by itself; `log` gets it as a text."""

    def __init__(
        self,
        program: SessionProgram,
        targets: Mapping[str, WhipTarget],
        *,
        clock: Clock,
        on_changed: Callable[[PushChanged], None],
        log: Callable[[str, bool], None],  # and whether it is an error
    ) -> None:
        self.targets = tuple(targets)
        self._program = program
        self._targets = targets
        self._clock = clock
        self._on_changed = on_changed
        self._log = log
        self._pushes: dict[str, Push] = {}

    def set(self, message: ProgramPush) -> PushChanged:
        """Begins or ends a push; the answer has its state. Raises `Refused` (`invalid_value`)."""
        target = self._targets.get(message.target)
        if target is None:
            known = ", ".join(self._targets) or "none"
            reason = f"the operator has named no target `{message.target}`; there are: {known}"
            raise Refused("invalid_value", reason, param="target")
        push = self._pushes.get(target.name)
        if push is None:
            push = Push(target, self._program, clock=self._clock, on_changed=self._tell)
            self._pushes[target.name] = push
        if message.push:
            push.start()
        else:
            push.stop()
        return _changed(push, message.event_id)

    def running(self) -> list[PushChanged]:
        """The state of each push that is on, for a controller that resumes."""
        return [_changed(push) for push in self._pushes.values() if push.is_on]

    async def close(self) -> None:
        """Ends all pushes and waits until they have closed everything. Idempotent."""
        await asyncio.gather(*(push.close() for push in self._pushes.values()))

    def _tell(self, push: Push) -> None:
        self._log(f"push to {push.target.name}: {push.state} {push.detail or ''}", push.state is PushState.FAILED)
        self._on_changed(_changed(push))


def _changed(push: Push, event_id: str | None = None) -> PushChanged:
    return PushChanged(target=push.target.name, state=push.state.value, detail=push.detail, event_id=event_id)
