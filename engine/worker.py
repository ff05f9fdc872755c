"""The engine process: inbox, arbiter, step, events. One loop thread that computes, one reader thread that listens.

Neighbours: `engine.supervisor` starts it and talks to it with the messages of `engine.wire`. The loop takes its inbox
before every piece of work (a denoising step or a decoded latent frame), so a cancel waits for one piece at most, and
beats after every piece, so silence means that the work itself hangs. The process lives exactly as long as its
supervisor's end of the socket.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import queue
import signal
import socket
import threading
import time
import traceback
from collections.abc import Iterator

from engine import wire
from engine.api import (
    Cancel,
    Estimate,
    Generate,
    GenerationCancelled,
    GenerationFailed,
    GenerationFinished,
    GenerationStarted,
    ModelError,
    Quality,
    StepFinished,
)

# Heavy: seconds of imports, which is why a spare process does them ahead of time.
import torch  # isort: skip

from engine.arbiter import Arbiter  # isort: skip
from engine.config import profile  # isort: skip
from engine.generation import Generation  # isort: skip
from engine.models import Model, load  # isort: skip
from engine.pixels import to_frames  # isort: skip

logger = logging.getLogger(__name__)

IDLE_BEAT_S = 0.5


class Connection:
    """The socket to the supervisor. `send` belongs to the loop thread; a reader thread fills `inbox`."""

    def __init__(self, sock: socket.socket, ring: wire.FrameRing) -> None:
        self._socket = sock
        self._ring = ring
        # Bounded by the supervisor, which lets at most `max_in_flight` generations in and one cancel for each.
        self.inbox: queue.SimpleQueue[wire.Load | Generate | Cancel] = queue.SimpleQueue()

    def start_reading(self) -> None:
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def send(self, message: wire.FromEngine) -> None:
        self._socket.sendall(wire.encode(message))

    def _read(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as stream:
            while header := stream.read(wire.HEADER_BYTES):
                message = wire.decode(stream.read(wire.body_length(header)))
                if isinstance(message, wire.Consumed):
                    self._ring.consume(message.position)
                elif isinstance(message, wire.Load | Generate | Cancel):
                    self.inbox.put(message)
        # The supervisor closed its end or died: nobody is left to work for, and no step is worth finishing.
        os._exit(0)


class Worker:
    """Runs generations with one model until the process ends."""

    def __init__(self, connection: Connection, ring: wire.FrameRing, model: Model) -> None:
        self._connection = connection
        self._ring = ring
        self._model = model
        self._arbiter = Arbiter()
        self._decoding: dict[str, Iterator[torch.Tensor]] = {}
        self._num_decoded: dict[str, int] = {}

    def run(self) -> None:
        while True:
            self.step()

    def step(self) -> None:
        """Take what came in, do one piece of work, beat."""
        self._take_inbox()
        generation = self._arbiter.next()
        if generation is not None:
            try:
                self._advance(generation)
            except (ModelError, torch.OutOfMemoryError) as error:
                self._fail(generation, error)
        self._connection.send(wire.Heartbeat())

    def warm_up(self) -> dict[Quality, Estimate]:
        """One whole generation, as a user's: memory is touched, kernels are chosen, nothing is left for a viewer.

        Returns what a generation of each quality takes by its times: the estimates of the first prompts.
        """
        generation = Generation(Generate("warm-up", "the sea at sunset", Quality.FAST), time.monotonic())
        self._start(generation)
        assert generation.solver is not None
        while not generation.is_denoised:
            self._step(generation)
            self._preview(generation)
        began_at = time.monotonic()
        for rgb in self._model.decode(generation):
            to_frames(rgb)
        decoded_s = time.monotonic() - began_at
        step_s = (generation.denoised_s + generation.previewed_s) / generation.num_steps
        return {
            quality: Estimate(generation.text_s + step_s, generation.text_s + num_steps * step_s + decoded_s)
            for quality, num_steps in self._model.profile.num_steps.items()
        }

    # --- the inbox ------------------------------------------------------------------------------------------------

    def _take_inbox(self) -> None:
        """All that waits; when there is nothing to do, waits for the first message, one beat at most."""
        try:
            command = self._connection.inbox.get(block=not len(self._arbiter), timeout=IDLE_BEAT_S)
            while True:
                self._take(command)
                command = self._connection.inbox.get_nowait()
        except queue.Empty:
            pass

    def _take(self, command: wire.Load | Generate | Cancel) -> None:
        match command:
            case Generate():
                self._arbiter.add(Generation(command, queued_at=time.monotonic()))
            case Cancel(generation_id=generation_id):
                generation = self._forget(generation_id)
                if generation is not None:
                    self._connection.send(GenerationCancelled(generation_id, generation.step_index))
            case wire.Load():
                raise RuntimeError("a second Load: this process has its model")

    def _forget(self, generation_id: str) -> Generation | None:
        self._decoding.pop(generation_id, None)
        self._num_decoded.pop(generation_id, None)
        return self._arbiter.remove(generation_id)

    # --- one piece of work ----------------------------------------------------------------------------------------

    def _advance(self, generation: Generation) -> None:
        if not generation.is_started:
            words = self._start(generation)
            self._connection.send(GenerationStarted(generation.generation_id, generation.num_steps, *words))
        elif not generation.is_denoised:
            self._denoise(generation)
        else:
            self._decode(generation)

    def _start(self, generation: Generation) -> tuple[tuple[str, ...], tuple[str, ...]]:
        generation.started_at = time.monotonic()
        words = self._model.begin(generation)
        generation.text_s = time.monotonic() - generation.started_at
        return words

    def _denoise(self, generation: Generation) -> None:
        self._step(generation)
        name, step_index, num_steps = generation.generation_id, generation.step_index - 1, generation.num_steps
        self._connection.send(StepFinished(name, step_index, num_steps))
        if generation.command.wants_previews:
            self._preview(generation, send=True)

    def _step(self, generation: Generation) -> None:
        began_at = time.monotonic()
        self._model.denoiser.step([generation])
        generation.denoised_s += time.monotonic() - began_at

    def _preview(self, generation: Generation, *, send: bool = False) -> None:
        began_at = time.monotonic()
        step_index, num_steps = generation.step_index - 1, generation.num_steps
        rgb = self._model.preview(generation)
        if rgb is None:
            return
        planes = to_frames(rgb).planes
        if send:
            # A preview without room in the ring is dropped: the next one is sharper anyway.
            place = self._ring.put(planes, wait_s=0.0)
            if place is not None:
                at = wire.FramesAt(
                    generation.generation_id,
                    place[0],
                    planes.shape,
                    place[1],
                    step_index=step_index,
                    num_steps=num_steps,
                )
                self._connection.send(at)
        generation.previewed_s += time.monotonic() - began_at

    def _decode(self, generation: Generation) -> None:
        """The frames of the next latent frame; after the last one the generation is finished."""
        name = generation.generation_id
        began_at = time.monotonic()
        if name not in self._decoding:
            self._decoding[name] = self._model.decode(generation)
        stream = self._decoding[name]
        rgb = next(stream, None)
        if rgb is not None:
            self._send_clip_frames(generation, rgb)
        generation.decoded_s += time.monotonic() - began_at
        if rgb is None:
            num_frames = self._num_decoded[name]
            self._forget(name)
            self._connection.send(GenerationFinished(name, num_frames, generation.timings()))

    def _send_clip_frames(self, generation: Generation, rgb: torch.Tensor) -> None:
        name = generation.generation_id
        planes = to_frames(rgb).planes
        first_index = self._num_decoded.get(name, 0)
        while (place := self._ring.put(planes, wait_s=IDLE_BEAT_S)) is None:
            self._connection.send(wire.Heartbeat())  # the server is slow, we are not dead
        self._connection.send(wire.FramesAt(name, place[0], planes.shape, place[1], first_index=first_index))
        self._num_decoded[name] = first_index + len(planes)

    def _fail(self, generation: Generation, error: Exception) -> None:
        is_memory = isinstance(error, torch.OutOfMemoryError)
        self._forget(generation.generation_id)
        code = "out_of_memory" if is_memory else "model_error"
        self._connection.send(GenerationFailed(generation.generation_id, code, str(error)[:500], retryable=is_memory))


def main(argv: list[str] | None = None) -> None:
    arguments = _parse(argv)
    # Ctrl-C goes to the whole terminal group; the supervisor decides when we end, by closing the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s engine %(message)s")
    ring = wire.FrameRing(arguments.frames_fd, arguments.frames_bytes)
    connection = Connection(socket.socket(fileno=arguments.socket_fd), ring)
    connection.start_reading()
    connection.send(wire.Imported())
    command = connection.inbox.get()
    assert isinstance(command, wire.Load), "the first message is Load"
    try:
        began_at = time.monotonic()
        torch.set_num_threads(command.num_threads)
        model = load(profile(command.settings.model))
        worker = Worker(connection, ring, model)
        estimates = worker.warm_up()
        connection.send(wire.WarmedUp(model.description, time.monotonic() - began_at, estimates))
        worker.run()
    except BrokenPipeError:
        return  # the supervisor is gone
    except ModelError as error:
        connection.send(wire.Refused(str(error)))
        raise SystemExit(1) from None
    except Exception as error:
        # The process boundary: whatever it was, the supervisor must hear of it before we die of it.
        traceback.print_exc()
        with contextlib.suppress(OSError):
            connection.send(wire.Raised(f"{type(error).__name__}: {error}"[:500]))
        raise SystemExit(1) from None


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The engine process; started by engine.supervisor.")
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument("--frames-fd", type=int, required=True)
    parser.add_argument("--frames-bytes", type=int, required=True)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
