"""An engine process whose model cannot be loaded; notes each start in the file named first. Started by tests only."""

import sys
from pathlib import Path

from engine.api import ModelError
from engine.process import worker


def refuse(*_arguments: object, **_options: object) -> None:
    raise ModelError("the folder lacks vae; expected a diffusers folder")


if __name__ == "__main__":
    with Path(sys.argv.pop(1)).open("a") as starts:
        starts.write("one\n")
    worker.load = refuse  # type: ignore[assignment]
    worker.main()
