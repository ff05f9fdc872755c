"""An engine process without a model, quick to start: speaks `engine.wire` and does what the prompts say.

``die``: begins and exits, the first time that it is asked (the file named first remembers). ``wait``: begins, no more.
Everything else fails with what it was told as its message: due time, tenant and class. Started by tests only.
"""

import argparse
import os
import socket
import sys
from pathlib import Path

from engine import wire
from engine.api import Cancel, Generate, GenerationCancelled, GenerationFailed, GenerationStarted, ModelDescription
from engine.api import Quality as Q
from engine.config import Rung
from engine.cost import CostRow, Piece

STEPS = {Q.FAST: 4, Q.FINE: 8}
ROWS = tuple(
    CostRow(piece, 0, 1, seconds, 0.1, 9)
    for piece, seconds in ((Piece.BEGIN, 0.0), (Piece.STEP, 1.0), (Piece.PREVIEW, 0.5), (Piece.DECODE, 1.0))
)


def main() -> None:
    memory = Path(sys.argv.pop(1))
    parser = argparse.ArgumentParser()
    for name in ("--socket-fd", "--frames-fd", "--frames-bytes"):
        parser.add_argument(name, type=int)
    connection = socket.socket(fileno=parser.parse_args().socket_fd)
    stream = connection.makefile("rb")

    def send(message: wire.FromEngine) -> None:
        connection.sendall(wire.encode(message))

    send(wire.Imported())
    while header := stream.read(wire.HEADER_BYTES):
        message = wire.decode(stream.read(wire.body_length(header)))
        match message:
            case wire.Load():
                send(wire.Costs(ROWS))
                model = ModelDescription("scripted", "none", 224, 128, 25, 12, STEPS, True)
                send(wire.WarmedUp(model, 0.0, (Rung(STEPS, 224, 128),), 2, 1, slowest_s=60.0))
            case Generate(generation_id=name, prompt="die") if not memory.exists():
                memory.touch()
                send(GenerationStarted(name, 4))
                os._exit(1)
            case Generate(generation_id=name, prompt="wait"):
                send(GenerationStarted(name, 4))
            case Generate(generation_id=name):
                told = f"{message.due_in_s:.1f} {message.tenant} {message.is_operator} {message.is_stage_empty}"
                send(GenerationFailed(name, "model_error", told, retryable=False))
            case Cancel(generation_id=name):
                send(GenerationCancelled(name, 0))


if __name__ == "__main__":
    main()
