"""An engine process without a model, quick to start: speaks `engine.process.wire` and does what the prompts say.

On a prompt of `TROUBLE`, it begins and then makes that trouble, but only the first time; its first argument is the file
that remembers this. ``die`` exits. ``deadlock``, ``device`` and ``spin`` fall silent for that reason. ``work`` computes
for a while without a heartbeat. ``garbage`` sends bytes that cannot be decoded. ``strangers`` sends events of unknown
generations. The prompt ``wait`` begins and does no more; ``step`` makes one step. Any other prompt fails, and the
message repeats the command: due time, tenant and class. Started by tests only.
"""

import argparse
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from engine.api import (
    Cancel,
    Generate,
    GenerationCancelled,
    GenerationFailed,
    GenerationStarted,
    ModelDescription,
    StepFinished,
)
from engine.api import Quality as Q
from engine.arbiter.cost import CostRow, Piece
from engine.config import Rung
from engine.process import wire

STEPS = {Q.FAST: 4, Q.FINE: 8}
ROWS = tuple(
    CostRow(piece, 0, 1, seconds, 0.1, 9)
    for piece, seconds in ((Piece.BEGIN, 0.0), (Piece.STEP, 1.0), (Piece.PREVIEW, 0.5), (Piece.DECODE, 1.0))
)
TROUBLE = ("die", "deadlock", "device", "spin", "work", "garbage", "strangers")
# Elapsed time: with a small share of a core, little of it is the process's own time.
WORK_S = 3.0
_PR_SET_PDEATHSIG = 1


STEP_S = 0.5  # what each step is said to have taken


def meet(trouble: str, connection: socket.socket) -> None:
    match trouble:
        case "die":
            os._exit(1)
        case "deadlock":
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()
        case "device":
            # A thread that called vfork is in the kernel, uninterruptible (state D), until its child ends.
            libc = ctypes.CDLL(None)
            if libc.vfork() == 0:
                libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
                libc.pause()
        case "spin":
            while True:
                pass
        case "work":
            until = time.monotonic() + WORK_S
            while time.monotonic() < until:
                pass
        case "garbage":
            connection.sendall((7).to_bytes(wire.HEADER_BYTES, "big") + b"nothing")
            signal.pause()
        case "strangers":
            at = wire.FramesAt("stranger", 0, (1, 3, 2), 6)
            for event in (GenerationStarted("stranger", 4), StepFinished("stranger", 0, 4), at):
                connection.sendall(wire.encode(event))
            connection.sendall(wire.encode(GenerationCancelled("stranger", 0)))


def main() -> None:
    memory = Path(sys.argv.pop(1))
    parser = argparse.ArgumentParser()
    for name in ("--socket-fd", "--frames-fd", "--frames-bytes"):
        parser.add_argument(name, type=int)
    parser.add_argument("--slowest-s", type=float, default=60.0)
    arguments = parser.parse_args()
    connection = socket.socket(fileno=arguments.socket_fd)
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
                send(wire.WarmedUp(model, 0.0, (Rung(STEPS, 224, 128),), 2, 1, arguments.slowest_s))
            case Generate(generation_id=name, prompt="wait"):
                send(GenerationStarted(name, 4))
            case Generate(generation_id=name, prompt="step"):
                send(GenerationStarted(name, 4))
                send(wire.Spent((name,), STEP_S))
                send(StepFinished(name, 0, 4))
                send(wire.Heartbeat(STEP_S))
            case Generate(generation_id=name, prompt=prompt):
                if prompt in TROUBLE and not memory.exists():
                    memory.touch()
                    send(GenerationStarted(name, 4))
                    send(wire.Spent((name, "stranger"), 2 * STEP_S))
                    meet(prompt, connection)
                told = f"{message.due_in_s:.1f} {message.tenant} {message.is_operator} {message.is_stage_empty}"
                send(GenerationFailed(name, "model_error", told, retryable=False))
            case Cancel(generation_id=name):
                send(GenerationCancelled(name, 0))


if __name__ == "__main__":
    main()
