"""The worker's loop with a model of plain Python: commands, trouble and random schedules."""

import queue
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
import torch

from engine.api import (
    Cancel,
    EngineReport,
    Generate,
    GenerationCancelled,
    GenerationFailed,
    GenerationFinished,
    GenerationStarted,
    ModelError,
    Quality,
    StepFinished,
)
from engine.config import ModelProfile, Rung
from engine.parts.generation import Generation
from engine.process import wire
from engine.process.own_clock import Sample, Thread
from engine.process.worker import Worker
from tests.seeds import seeds

ENDS = (GenerationFinished, GenerationCancelled, GenerationFailed)
STEPS = {Quality.FAST: 4, Quality.FINE: 8}
FEWER = {Quality.FAST: 2, Quality.FINE: 4}
PROFILE = ModelProfile(
    name="plain",
    width=32,
    height=32,
    num_frames=9,
    frame_rate=12,
    num_steps=STEPS,
    guidance_scale=1.0,
    rows_per_forward=2,
    lower_rungs=(
        Rung(FEWER, 32, 32, degraded=("fewer_steps",)),
        Rung(FEWER, 16, 16, degraded=("fewer_steps", "smaller_size")),
    ),
)


@dataclass
class Solver:
    num_steps: int


@dataclass
class PlainModel:
    """Takes 0.1 s a step (0.12 for two together), on a clock of its own; fails as scripted."""

    profile: ModelProfile = PROFILE
    now: float = 0.0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    # Called before each piece with its name and the prompts; may raise.
    trouble: Any = lambda piece, prompts: None
    steps: list[tuple[str, ...]] = field(default_factory=list)
    num_freed: int = 0
    busy_s: float = 0.0
    reports: EngineReport = field(default_factory=EngineReport)

    @property
    def denoiser(self) -> "PlainModel":
        return self

    def spend(self, seconds: float) -> None:
        self.now += seconds
        self.busy_s += seconds

    def begin(self, generation: Generation) -> tuple[tuple[str, ...], tuple[str, ...]]:
        self.trouble("begin", [generation.command.prompt])
        rung = self.profile.ladder[generation.rung_index]
        generation.latents = torch.zeros(1, 1, 3, rung.height // 16, rung.width // 16)
        generation.prompt_embeds = torch.zeros(1, 1, 1)
        generation.solver = cast(Any, Solver(rung.num_steps[generation.command.quality]))
        self.spend(0.01)
        return (), ()

    def step(self, generations: Sequence[Generation]) -> None:
        assert len({generation.shape_key for generation in generations}) == 1
        assert all(not generation.is_denoised for generation in generations)
        self.trouble("step", [generation.command.prompt for generation in generations])
        self.spend(0.1 if len(generations) == 1 else 0.12)
        self.steps.append(tuple(generation.generation_id for generation in generations))
        for generation in generations:
            generation.step_index += 1

    def preview(self, generation: Generation) -> torch.Tensor | None:
        self.spend(0.02)
        return None if generation.is_denoised else torch.zeros(1, 3, 32, 32)

    def decode(self, generation: Generation) -> Iterator[torch.Tensor]:
        for num_frames in (1, 4, 4):
            self.trouble("decode", [generation.command.prompt])
            self.spend(0.03)
            yield torch.zeros(num_frames, 3, 32, 32)

    def report(self) -> EngineReport:
        return self.reports

    def free_memory(self) -> None:
        self.num_freed += 1


class Wire:
    """Link and ring in one. Keeps the sent messages."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.sent: list[Any] = []

    def send(self, message: wire.FromEngine) -> None:
        self.sent.append(message)

    def put(self, planes: Any, *, wait_s: float) -> tuple[int, int]:
        return 0, 0

    def of(self, name: str, *kinds: type) -> list[Any]:
        return [each for each in self.sent if isinstance(each, kinds) and each.generation_id == name]


def made(model: PlainModel, *, sample: Callable[[], Sample | None] = lambda: None) -> tuple[Worker, Wire]:
    link = Wire()
    parts = (cast(Any, link), cast(Any, link), cast(Any, model))
    worker = Worker(*parts, monotonic=lambda: model.now, sample=sample)
    worker.warm_up()
    link.sent.clear()
    model.steps.clear()
    model.busy_s = 0.0
    return worker, link


def run(worker: Worker) -> None:
    while len(worker._arbiter) or not worker._connection.inbox.empty():
        worker.step()


def test_the_warm_up_measures_each_piece_and_every_size() -> None:
    worker, _ = made(PlainModel())
    names = {entry.what: entry.seconds for entry in worker.cost.entries()}
    assert names["step 32x32 batch 1"] == pytest.approx(0.1)
    assert names["step 32x32 batch 2"] == pytest.approx(0.12)
    assert names["decode 32x32 full"] == names["decode 16x16 full"] == pytest.approx(0.03)
    assert worker.slowest_s == pytest.approx(0.12)


def test_a_warm_up_on_a_busy_machine_does_not_make_the_model_look_slow() -> None:
    # It sets how long the engine may be silent. Otherwise a hang after a starved start would be found late.
    model = PlainModel()
    worker, _ = made(model, sample=lambda: {1: Thread(0.25 * model.now, 0.75 * model.now, is_runnable=True)})
    assert worker.slowest_s == pytest.approx(0.03)
    assert {entry.what: entry.seconds for entry in worker.cost.entries()}["step 32x32 batch 2"] == pytest.approx(0.12)


def test_costs_are_sent_with_each_end_and_the_report_when_it_changes() -> None:
    model = PlainModel()
    worker, link = made(model)
    link.inbox.put(Generate("a", "x"))
    run(worker)
    assert sum(isinstance(each, wire.Costs) for each in link.sent) == 1
    assert not any(isinstance(each, EngineReport) for each in link.sent)
    model.reports = EngineReport(compiled=("32x32",))
    link.inbox.put(Generate("b", "x"))
    run(worker)
    assert [each for each in link.sent if isinstance(each, EngineReport)] == [model.reports]


def test_two_generations_of_one_shape_share_steps_if_that_gains() -> None:
    model = PlainModel()
    worker, link = made(model)
    for name in "ab":
        link.inbox.put(Generate(name, "x", wants_previews=False))
    run(worker)
    assert ("a", "b") in model.steps or ("b", "a") in model.steps
    for name in "ab":
        assert [each.step_index for each in link.of(name, StepFinished)] == [0, 1, 2, 3]


def test_the_start_reports_what_was_given_up() -> None:
    worker, link = made(PlainModel())
    for number in range(40):
        link.inbox.put(Generate(f"g{number}", "x", due_in_s=5.0))
    run(worker)
    started = [link.of(f"g{number}", GenerationStarted)[0] for number in range(40)]
    assert {each.degraded for each in started} <= {rung.degraded for rung in PROFILE.ladder}
    assert any(each.degraded for each in started)
    assert all(each.num_steps == (2 if each.degraded else 4) for each in started)


def test_out_of_memory_makes_it_again_once_on_a_lower_rung() -> None:
    failures = iter([True])

    def once(piece: str, prompts: list[str]) -> None:
        if piece == "decode" and next(failures, False):
            raise torch.OutOfMemoryError("scripted")

    model = PlainModel()
    worker, link = made(model)
    model.trouble = once
    link.inbox.put(Generate("a", "x"))
    run(worker)
    assert [each.degraded for each in link.of("a", GenerationStarted)] == [(), ("fewer_steps",)]
    assert [type(each) for each in link.of("a", *ENDS)] == [GenerationFinished]
    assert model.num_freed == 1


def test_out_of_memory_on_the_floor_makes_it_again_on_the_floor() -> None:
    failures = iter([True])

    def once(piece: str, prompts: list[str]) -> None:
        if piece == "step" and next(failures, False):
            raise MemoryError("scripted")

    model = PlainModel(profile=replace(PROFILE, lower_rungs=()))
    worker, link = made(model)
    model.trouble = once
    link.inbox.put(Generate("a", "x"))
    run(worker)
    assert [each.degraded for each in link.of("a", GenerationStarted)] == [(), ()]
    assert [type(each) for each in link.of("a", *ENDS)] == [GenerationFinished]


def test_a_second_out_of_memory_fails_it_and_ends_the_process() -> None:
    def big(piece: str, prompts: list[str]) -> None:
        if piece == "step" and "big" in prompts:
            raise torch.OutOfMemoryError("scripted")

    model = PlainModel()
    worker, link = made(model)
    model.trouble = big
    link.inbox.put(Generate("a", "big"))
    link.inbox.put(Generate("b", "small"))
    with pytest.raises(torch.OutOfMemoryError):
        run(worker)
    (end,) = link.of("a", *ENDS)
    assert (end.code, end.retryable) == ("out_of_memory", True)
    assert not link.of("b", *ENDS), "the next process makes it"


def test_a_models_error_fails_its_own_generation_only() -> None:
    def broken(piece: str, prompts: list[str]) -> None:
        if "broken" in prompts:
            raise ModelError("no first frames here")

    model = PlainModel()
    worker, link = made(model)
    model.trouble = broken
    link.inbox.put(Generate("a", "broken"))
    link.inbox.put(Generate("b", "whole"))
    run(worker)
    assert [(each.code, each.message) for each in link.of("a", *ENDS)] == [("model_error", "no first frames here")]
    assert [type(each) for each in link.of("b", *ENDS)] == [GenerationFinished]


@pytest.mark.random
@pytest.mark.parametrize("seed", seeds(60))
def test_random_schedules(seed: int) -> None:
    """In any order of commands: one end each, no step for dead work, no time lost, nothing below the floor."""
    rng = random.Random(seed)
    model = PlainModel()
    worker, link = made(model)

    def trouble(piece: str, prompts: list[str]) -> None:
        if rng.random() < 0.01:
            raise ModelError("scripted")

    model.trouble = trouble
    alive: dict[str, Generate] = {}
    cancelled: set[str] = set()
    for number in range(30):
        name = f"g{number}"
        alive[name] = Generate(
            *(name, "x", rng.choice(list(Quality)), 0, rng.random() < 0.7),
            stage_id=f"s{rng.randrange(8)}",
            tenant=f"t{rng.randrange(3)}",
            is_operator=rng.random() < 0.5,
            is_stage_empty=rng.random() < 0.3,
            due_in_s=rng.choice([0.1, 2.0, 10.0]),
        )
        link.inbox.put(alive[name])
        if rng.random() < 0.3:
            cancelled.add(rng.choice(list(alive)))
            link.inbox.put(Cancel(list(cancelled)[-1]))
        for _ in range(rng.randrange(12)):
            if len(worker._arbiter) or not link.inbox.empty():
                worker.step()
    run(worker)
    ended_at = {}
    for index, message in enumerate(link.sent):
        if isinstance(message, ENDS):
            assert message.generation_id not in ended_at, "ended twice"
            ended_at[message.generation_id] = index
        elif hasattr(message, "generation_id"):
            assert message.generation_id not in ended_at, f"{message} after its end"
    assert set(ended_at) == set(alive)
    floor = PROFILE.ladder[-1].num_steps
    for name, command in alive.items():
        assert all(each.num_steps >= floor[command.quality] for each in link.of(name, GenerationStarted))
    finished = [each for each in link.sent if isinstance(each, GenerationFinished)]
    assert all(each.num_frames == PROFILE.num_frames for each in finished)
    pieces = [each for each in link.sent if isinstance(each, wire.Spent)]
    assert sum(each.seconds for each in pieces) == pytest.approx(model.busy_s)
    beats = [each for each in link.sent if isinstance(each, wire.Heartbeat)]
    assert sum(each.busy_s for each in beats) == pytest.approx(model.busy_s)
    spent = [each.timings for each in finished]
    assert sum(t.text_s + t.denoised_s + t.previewed_s + t.decoded_s for t in spent) <= model.busy_s + 1e-6
    if len(finished) == len(alive):
        assert sum(t.text_s + t.denoised_s + t.previewed_s + t.decoded_s for t in spent) == pytest.approx(model.busy_s)
