"""Whose denoising step runs next. Pure: no clock, no model, no I/O.

Today in order of arrival, one generation at a time: on two cores two that interleave would both come twice as late.
The decision is made anew at each step boundary, so cancelled work stops there.
"""

from __future__ import annotations

from collections import OrderedDict

from engine.generation import Generation


class Arbiter:
    def __init__(self) -> None:
        self._generations: OrderedDict[str, Generation] = OrderedDict()

    def __len__(self) -> int:
        return len(self._generations)

    def add(self, generation: Generation) -> None:
        """Raises ValueError if that id is here already."""
        if generation.generation_id in self._generations:
            raise ValueError(f"generation {generation.generation_id} is here already")
        self._generations[generation.generation_id] = generation

    def remove(self, generation_id: str) -> Generation | None:
        """Takes a generation out, ended or cancelled; None if it is not here."""
        return self._generations.pop(generation_id, None)

    def next(self) -> Generation | None:
        """The generation whose next piece of work is due, or None when there is nothing to do."""
        return next(iter(self._generations.values()), None)
