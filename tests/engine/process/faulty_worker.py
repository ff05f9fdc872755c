"""The real engine process with one addition: on SIGUSR1 its next denoising step raises. Started by tests only."""

import signal
from collections.abc import Sequence

import engine.loading.models
from engine.parts.denoiser import Denoiser
from engine.parts.generation import Generation
from engine.process import worker

# Signals that have arrived and have not caused a raise yet.
_signals: list[int] = []


class FaultyDenoiser(Denoiser):
    def step(self, generations: Sequence[Generation]) -> None:
        if _signals:
            raise ZeroDivisionError(f"scripted, by signal {_signals.pop()}")
        super().step(generations)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda number, _frame: _signals.append(number))
    engine.loading.models.Denoiser = FaultyDenoiser  # type: ignore[misc]
    worker.main()
