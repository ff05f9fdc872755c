"""Decides which clips a store of `caching_engine` holds, and which one it evicts next. Pure."""

from __future__ import annotations

from dataclasses import dataclass


class Ranking:
    """The clips of one store, by value (GreedyDual-Size-Frequency). Knows names, sizes and values, not the frames."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: dict[str, _Ranked] = {}
        self._age = 0.0  # the value of the last evicted clip; new clips start from it
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def add(self, name: str, num_bytes: int, cost_s: float) -> list[str] | None:
        """Adds a clip; returns the names that it evicts. None, with nothing changed, if the clip can never fit."""
        if num_bytes > self._max_bytes:
            return None
        self.remove(name)
        gone: list[str] = []
        while self.num_bytes + num_bytes > self._max_bytes:
            least = min(self._entries, key=lambda other: self._entries[other].value)
            self._age = self._entries[least].value
            self.remove(least)
            gone.append(least)
        entry = _Ranked(num_bytes, cost_s)
        entry.value = self._age + entry.worth
        self._entries[name] = entry
        self.num_bytes += num_bytes
        return gone

    def use(self, name: str) -> None:
        entry = self._entries[name]
        entry.num_uses += 1
        entry.value = self._age + entry.worth

    def remove(self, name: str) -> None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self.num_bytes -= entry.num_bytes


@dataclass(eq=False, slots=True)
class _Ranked:
    num_bytes: int
    cost_s: float
    num_uses: int = 1
    value: float = 0.0

    @property
    def worth(self) -> float:
        return self.num_uses * self.cost_s / self.num_bytes
