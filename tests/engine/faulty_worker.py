"""The real engine process with one addition: on SIGUSR1 its next denoising step raises. Started by tests only."""

import signal
from typing import Any

import engine.denoiser
from engine import worker

_raise_next = False


def _on_signal(_number: int, _frame: Any) -> None:
    global _raise_next
    _raise_next = True


class FaultyDenoiser(engine.denoiser.Denoiser):
    def step(self, generations: Any) -> None:
        global _raise_next
        if _raise_next:
            _raise_next = False
            raise ZeroDivisionError("scripted")
        super().step(generations)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _on_signal)
    engine.models.Denoiser = FaultyDenoiser  # type: ignore[attr-defined]
    worker.main()
