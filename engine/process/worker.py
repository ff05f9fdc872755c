"""The engine process: inbox, arbiter, step, events. One loop thread computes, one reader thread listens.

`engine.process.supervisor` starts the process and talks to it with the messages of `engine.process.wire`. The loop
reads its inbox before every piece of work (a denoising step or a decoded latent frame), so a cancel waits for one piece
at most. It sends a heartbeat after every piece, so silence means that the work itself hangs. The process ends when the
supervisor's end of the socket closes.
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
from collections.abc import Callable, Sequence

from engine.api import (
    Cancel,
    EngineReport,
    Generate,
    GenerationCancelled,
    GenerationFailed,
    GenerationFinished,
    GenerationStarted,
    ModelError,
    PromptWords,
    Quality,
    StepFinished,
)
from engine.process import wire

# Heavy: seconds of imports, which is why a spare process does them ahead of time.
import torch  # isort: skip

from engine.arbiter.arbiter import Arbiter  # isort: skip
from engine.arbiter.cost import Cost, Piece  # isort: skip
from engine.parts.generation import Generation  # isort: skip
from engine.loading.device_memory import is_out_of_memory  # isort: skip
from engine.loading.models import Model, load  # isort: skip
from engine.process.own_clock import Sample, Watch, threads_of  # isort: skip
from engine.parts.pixels import to_frames  # isort: skip
from engine.arbiter.work import Turn, Work  # isort: skip

logger = logging.getLogger(__name__)

IDLE_BEAT_S = 0.5
# On rungs below the topmost: one slow step, and one that is measured.
_WARM_STEPS = 2


class SupervisorLink:
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
        # The supervisor closed its end or died: no step is worth finishing.
        os._exit(0)


class Worker:
    """Runs generations with one model until the process ends."""

    def __init__(
        self,
        connection: SupervisorLink,
        ring: wire.FrameRing,
        model: Model,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sample: Callable[[], Sample | None] = lambda: threads_of(os.getpid()),
    ) -> None:
        self._connection = connection
        self._ring = ring
        self._model = model
        self._monotonic = monotonic
        self._sample = sample
        self.cost = Cost(model.profile.ladder, model.profile.num_latent_frames)
        self.max_batch = _max_batch(model)
        self._arbiter = Arbiter(self.cost)
        self._generations: dict[str, Generation] = {}
        self._reported: EngineReport | None = None
        self.slowest_s = 0.0  # of the warm-up's pieces, in our own time: a busy machine must not look like a slow model

    def run(self) -> None:
        while True:
            self.step()

    def step(self) -> None:
        """Schedule, run, conclude; beat."""
        self._take_inbox()
        began_at = self._monotonic()
        turn = self._arbiter.next(began_at)
        if turn is not None:
            try:
                self._conclude(turn, self._perform(turn))
            except Exception as error:
                # The boundary of one generation: any other error ends the process, with its traceback.
                if not isinstance(error, ModelError) and not is_out_of_memory(error):
                    raise
                self._recover(turn, error)
        self._report()
        self._connection.send(wire.Heartbeat(self._monotonic() - began_at if turn is not None else 0.0))

    def warm_up(self) -> None:
        """Makes one whole clip like a user's, then the first steps and the decoder of each rung of another shape.

        This touches memory and chooses kernels, so that no viewer waits for it. Its times give the first estimates.
        """
        shapes: set[tuple[int, int, str]] = set()
        for rung_index, rung in enumerate(self._model.profile.ladder):
            shape = (rung.width, rung.height, rung.decoder)
            if shape not in shapes:
                self._warm_up_rung(rung_index, max_steps=_WARM_STEPS if shapes else None)
            shapes.add(shape)
        if self.max_batch > 1:
            self._warm_up_batch()
        self._arbiter = Arbiter(self.cost, max_batch=self.max_batch)
        self._report()
        self._connection.send(wire.Costs(self.cost.rows()))

    def _warm_up_rung(self, rung_index: int, *, max_steps: int | None) -> None:
        """The first piece of each kind is slower than the next ones, so it is measured only if no second one comes."""
        generation = self._warm_generation("the sea at sunset", rung_index)
        second = self._warm_generation("a forest by day", rung_index)
        self._timed(None, rung_index, lambda: self._model.begin(generation))
        self._timed(Piece.BEGIN, rung_index, lambda: self._model.begin(second))
        while not generation.is_denoised and generation.step_index != max_steps:
            is_cold = generation.step_index == 0 and generation.num_steps > 1
            self._timed(None if is_cold else Piece.STEP, rung_index, lambda: self._step([generation]))
            if not generation.is_denoised:
                is_cold = generation.step_index == 1 and generation.num_steps > 2
                self._timed(None if is_cold else Piece.PREVIEW, rung_index, lambda: self._preview(generation))
        stream = self._model.decode(generation)
        began_at = self._monotonic()
        for _ in range(self.cost.num_pieces):
            self._timed(None, rung_index, lambda: to_frames(next(stream)))
        self.cost.measure(Piece.DECODE, rung_index, (self._monotonic() - began_at) / self.cost.num_pieces)

    def _warm_up_batch(self) -> None:
        generations = [self._warm_generation(f"scene {index}", 0) for index in range(self.max_batch)]
        try:
            for generation in generations:
                self._timed(None, 0, lambda generation=generation: self._model.begin(generation))  # type: ignore[misc]
            self._timed(None, 0, lambda: self._step(generations))
            if not generations[0].is_denoised:
                self._timed(Piece.STEP, 0, lambda: self._step(generations), batch=self.max_batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            logger.warning("! no memory for %d generations in one step: each step now runs one", self.max_batch)
            self._model.free_memory()
            self.max_batch = 1

    def _warm_generation(self, prompt: str, rung_index: int) -> Generation:
        return Generation(Generate("warm-up", prompt, Quality.FAST), self._monotonic(), rung_index=rung_index)

    def _timed(self, piece: Piece | None, rung_index: int, work: Callable[[], object], *, batch: int = 1) -> None:
        began_at, before = self._monotonic(), self._sample()
        work()
        ended_at, after = self._monotonic(), self._sample()
        seconds = ended_at - began_at
        own_s = seconds if before is None or after is None else Watch(began_at, before).span(ended_at, after).own_s
        self.slowest_s = max(self.slowest_s, own_s)
        if piece is not None:
            self.cost.measure(piece, rung_index, seconds, batch=batch)
        self._connection.send(wire.Heartbeat())

    # --- the inbox ------------------------------------------------------------------------------------------------

    def _take_inbox(self) -> None:
        """Takes all waiting messages. Without work, waits for the first one, for one beat at most."""
        try:
            command = self._connection.inbox.get(block=not len(self._arbiter), timeout=IDLE_BEAT_S)
            while True:
                self._take(command)
                command = self._connection.inbox.get_nowait()
        except queue.Empty:
            pass

    def _take(self, command: wire.Load | Generate | Cancel) -> None:
        match command:
            case Generate(generation_id=generation_id):
                now = self._monotonic()
                self._arbiter.add(Work.of(command, now))
                self._generations[generation_id] = Generation(command, queued_at=now)
            case Cancel(generation_id=generation_id):
                generation = self._forget(generation_id)
                if generation is not None:
                    self._connection.send(GenerationCancelled(generation_id, generation.step_index))
            case wire.Load():
                raise RuntimeError("a second Load: this process has its model")

    def _forget(self, generation_id: str) -> Generation | None:
        self._arbiter.remove(generation_id)
        return self._generations.pop(generation_id, None)

    # --- one piece of work ----------------------------------------------------------------------------------------

    def _perform(self, turn: Turn) -> float:
        """Runs the piece and returns its seconds. Raises the model's errors; the arbiter then does not count it."""
        generations = self._generations_of(turn)
        first = generations[0]
        began_at = self._monotonic()
        try:
            match turn.piece:
                case Piece.BEGIN:
                    first.rung_index = turn.works[0].rung_index
                    first.started_at = began_at
                    first.words = PromptWords(*self._model.begin(first))
                case Piece.STEP:
                    self._step(generations)
                case Piece.PREVIEW:
                    self._preview(first, send=True)
                case Piece.DECODE:
                    self._decode(first)
        finally:
            # Before the results, so that a generation's last piece counts; also for a piece that failed.
            seconds = self._monotonic() - began_at
            self._connection.send(wire.Spent(tuple(work.work_id for work in turn.works), seconds))
        return seconds

    def _conclude(self, turn: Turn, seconds: float) -> None:
        """Accounts for the piece and reports its result."""
        generations = self._generations_of(turn)
        first = generations[0]
        for generation in generations:
            generation.spent_s[turn.piece] += seconds / len(generations)
        if turn.piece is not Piece.DECODE:  # the pieces of a decode differ, so it is measured as a whole
            self.cost.measure(turn.piece, first.rung_index, seconds, batch=len(generations))
        self._arbiter.ended(turn, seconds)
        match turn.piece:
            case Piece.BEGIN:
                self._tell_begun(turn.works[0], first)
            case Piece.STEP:
                for work, generation in zip(turn.works, generations, strict=True):
                    step_index, num_steps = generation.step_index - 1, generation.num_steps
                    self._connection.send(StepFinished(work.work_id, step_index, num_steps))
                    work.shape_key = generation.shape_key  # of its next step
            case Piece.DECODE if first.stream is None:
                self._finish(first)

    def _generations_of(self, turn: Turn) -> list[Generation]:
        return [self._generations[work.work_id] for work in turn.works]

    def _tell_begun(self, work: Work, generation: Generation) -> None:
        work.num_steps = generation.num_steps
        work.shape_key = generation.shape_key
        self._connection.send(
            GenerationStarted(
                work.work_id,
                generation.num_steps,
                generation.words.understood,
                generation.words.not_understood,
                degraded=self._model.profile.ladder[generation.rung_index].degraded,
            )
        )

    def _step(self, generations: Sequence[Generation]) -> None:
        self._model.denoiser.step(generations)
        if self._model.device.type == "cuda":
            # Wait for the result. Otherwise costs and heartbeats would measure only the launches of the kernels.
            torch.cuda.current_stream(self._model.device).synchronize()

    def _preview(self, generation: Generation, *, send: bool = False) -> None:
        step_index, num_steps = generation.step_index - 1, generation.num_steps
        rgb = self._model.preview(generation)
        if rgb is None:
            return
        planes = to_frames(rgb).planes
        if not send:
            return
        # A preview without room in the ring is dropped: the next one is sharper anyway.
        place = self._ring.put(planes, wait_s=0.0)
        if place is not None:
            name = generation.generation_id
            at = wire.FramesAt(name, place[0], planes.shape, place[1], step_index=step_index, num_steps=num_steps)
            self._connection.send(at)

    def _decode(self, generation: Generation) -> None:
        """Decodes and sends the frames of the next latent frame. After the last one, `generation.stream` is None."""
        if generation.stream is None:
            generation.stream = self._model.decode(generation)
        rgb = next(generation.stream, None)
        if rgb is not None:
            self._send_clip_frames(generation, rgb)
        if rgb is None or generation.num_decoded >= self._model.profile.num_frames:
            generation.stream = None

    def _send_clip_frames(self, generation: Generation, rgb: torch.Tensor) -> None:
        name, first_index = generation.generation_id, generation.num_decoded
        planes = to_frames(rgb).planes
        while (place := self._ring.put(planes, wait_s=IDLE_BEAT_S)) is None:
            self._connection.send(wire.Heartbeat())  # the server is slow, we are not dead
        self._connection.send(wire.FramesAt(name, place[0], planes.shape, place[1], first_index=first_index))
        generation.num_decoded = first_index + len(planes)

    def _finish(self, generation: Generation) -> None:
        name, decoded_s = generation.generation_id, generation.spent_s[Piece.DECODE]
        self.cost.measure(Piece.DECODE, generation.rung_index, decoded_s / self.cost.num_pieces)
        self._forget(name)
        self._connection.send(wire.Costs(self.cost.rows()))
        self._connection.send(GenerationFinished(name, generation.num_decoded, generation.timings()))

    # --- when it fails --------------------------------------------------------------------------------------------

    def _recover(self, turn: Turn, error: Exception) -> None:
        """A model's error fails its generation. If memory runs out, each is made again once, alone and a rung lower."""
        if isinstance(error, ModelError):
            for work in turn.works:
                self._fail(work.work_id, "model_error", error, retryable=False)
            return
        logger.warning("! out of memory in %s of %d generations: %s", turn.piece, len(turn.works), error)
        if len(turn.works) > 1:
            self._arbiter.limit_batches()
        failed = [work for work in turn.works if work.is_second_try]
        for work in turn.works:
            if work in failed:
                self._fail(work.work_id, "out_of_memory", error, retryable=True)
            else:
                self._again(work)
        traceback.clear_frames(error.__traceback__)  # they hold the tensors of the piece that failed
        self._model.free_memory()
        if failed:
            # The state of this process's memory is unknown. The next process starts clean and makes the others.
            raise error

    def _again(self, work: Work) -> None:
        generation = self._forget(work.work_id)
        assert generation is not None
        self._generations[work.work_id] = Generation(generation.command, queued_at=generation.queued_at)
        self._arbiter.add(work.restarted_one_rung_lower(floor=len(self._model.profile.ladder) - 1))

    def _fail(self, name: str, code: str, error: Exception, *, retryable: bool) -> None:
        self._forget(name)
        self._connection.send(GenerationFailed(name, code, str(error)[:500], retryable=retryable))

    def _report(self) -> None:
        report = self._model.report()
        if report is not self._reported:
            self._reported = report
            self._connection.send(report)


def _max_batch(model: Model) -> int:
    """Generations in one step: as many as the transformer takes at once. More would run one after the other."""
    rows = 1 if model.profile.guidance_scale == 1.0 else 2
    return max(1, model.profile.rows_per_forward // rows)


def main(argv: list[str] | None = None) -> None:
    arguments = _parse(argv)
    # Ctrl-C goes to the whole terminal group; the supervisor decides when we end, by closing the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s engine %(message)s")
    ring = wire.FrameRing(arguments.frames_fd, arguments.frames_bytes)
    connection = SupervisorLink(socket.socket(fileno=arguments.socket_fd), ring)
    connection.start_reading()
    connection.send(wire.Imported())
    command = connection.inbox.get()
    assert isinstance(command, wire.Load), "the first message is Load"
    try:
        began_at = time.monotonic()
        torch.set_num_threads(command.num_threads)
        model = load(command.settings, on_part=lambda _: connection.send(wire.Heartbeat()))
        worker = Worker(connection, ring, model)
        worker.warm_up()
        startup_s = time.monotonic() - began_at
        ladder, num_pieces = model.profile.ladder, model.profile.num_latent_frames
        connection.send(
            wire.WarmedUp(model.description, startup_s, ladder, num_pieces, worker.max_batch, worker.slowest_s)
        )
        worker.run()
    except BrokenPipeError:
        return  # the supervisor is gone
    except ModelError as error:
        connection.send(wire.LoadRefused(str(error)))
        raise SystemExit(1) from None
    except Exception as error:
        # The process boundary: the supervisor must hear of any error before we exit.
        traceback.print_exc()
        with contextlib.suppress(OSError):
            connection.send(wire.Raised(f"{type(error).__name__}: {error}"[:500]))
        raise SystemExit(1) from None


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The engine process; started by engine.process.supervisor.")
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument("--frames-fd", type=int, required=True)
    parser.add_argument("--frames-bytes", type=int, required=True)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
