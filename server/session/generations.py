"""The table of generations and their owners: an entry lives from the command to the generation's end.

`slot.py` enters each generation that it sends; `registry.py` hands each engine event to the owner. Today only sessions
are owners; anything that sends `Generate` may be one. Pure, on the event loop.
"""

from __future__ import annotations

from typing import Protocol

from engine.api import GenerationEnd, GenerationEvent


class Owner(Protocol):
    """Who a generation belongs to."""

    @property
    def owner_id(self) -> str:
        """For log lines and for the admission's figures."""
        ...

    def on_generation_event(self, event: GenerationEvent) -> None:
        """Takes an event of one of its generations. If this raises, only this owner is closed."""
        ...

    async def close(self, reason: str) -> None: ...


class Generations:
    """Bounded by the engine, which lets `max_in_flight` generations in and ends each of them once."""

    def __init__(self) -> None:
        self._owners: dict[str, Owner] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def add(self, generation_id: str, owner: Owner) -> None:
        self._owners[generation_id] = owner

    def owner_of(self, event: GenerationEvent) -> Owner | None:
        """None for a generation whose owner has gone. Forgets the generation when it ends."""
        if isinstance(event, GenerationEnd):
            return self._owners.pop(event.generation_id, None)
        return self._owners.get(event.generation_id)

    def forget(self, owner: Owner) -> None:
        """The owner has gone: later events of its generations have no owner."""
        self._owners = {name: other for name, other in self._owners.items() if other is not owner}
