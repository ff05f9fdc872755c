"""The table of generations, their owners and their engine seconds: an entry lives from the command to its end.

`slot.py` enters each generation that it sends; `registry.py` hands each engine event to the owner. Today only sessions
are owners; anything that sends `Generate` may be one. Pure, on the event loop.
"""

from __future__ import annotations

from typing import Protocol

from engine.api import GenerationEnd, GenerationEvent
from server.accounts.payer import Reservation


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
        self._reservations: dict[str, Reservation] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def add(self, generation_id: str, owner: Owner, reservation: Reservation | None = None) -> None:
        self._owners[generation_id] = owner
        if reservation is not None:
            self._reservations[generation_id] = reservation

    def owner_of(self, event: GenerationEvent) -> Owner | None:
        """None for a generation whose owner has gone. At its end, settles its account and forgets the generation."""
        if isinstance(event, GenerationEnd):
            # Also without an owner: a stage that is closed in the middle of a clip pays for what was made of it.
            if (reservation := self._reservations.pop(event.generation_id, None)) is not None:
                reservation.settle(event.engine_s)
            return self._owners.pop(event.generation_id, None)
        return self._owners.get(event.generation_id)

    def forget(self, owner: Owner) -> None:
        """The owner has gone: later events of its generations have no owner."""
        self._owners = {name: other for name, other in self._owners.items() if other is not owner}
