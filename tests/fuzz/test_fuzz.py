"""Strangers' bytes raise nothing but declared errors: the corpus is replayed, and random changes of it are tried.

`make test` tries some seconds a target, `.ci/run` a minute, `.ci/long` ten: `ROUNDS` multiplies the number of inputs. A
new failure is kept in the corpus. Give that file a name that says what is odd, mend the code, and commit both.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from server.media.webrtc import ice
from tests.fuzz.mutation import mutated
from tests.fuzz.targets import TARGETS, Attempt, Target
from tests.seeds import seeds

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(CORPUS.glob("*/*"))
MAX_CORPUS_BYTES = 200_000


def corpus_of(name: str) -> list[bytes]:
    return [path.read_bytes() for path in FILES if path.parent.name == name]


class Crash(Exception):
    def __init__(self, data: bytes) -> None:
        super().__init__(f"{len(data)} bytes: {data[:200]!r}")
        self.data = data


async def timed(attempt: Attempt, data: bytes) -> float:
    before = time.perf_counter()
    await attempt(data)
    return time.perf_counter() - before


async def try_all(target: Target, inputs: Iterable[bytes]) -> tuple[float, bytes]:
    """Tries the inputs in turn. Gives the time of the slowest in seconds, and that input. Raises `Crash`."""
    slowest = (0.0, b"")
    late: list[Any] = []  # of tasks and callbacks
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: late.append(context))
    data = b""
    try:
        async with target.open() as attempt:
            for data in inputs:
                took_s = await timed(attempt, data)
                if took_s > slowest[0]:  # once more, because this machine does other work, too
                    slowest = max(slowest, (min(took_s, await timed(attempt, data)), data))
                assert not late, late
        gc.collect()  # a task that failed unseen tells the loop when it goes
        assert not late, late
    except Exception as error:
        raise Crash(data) from error
    return slowest


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
async def test_an_input_of_the_corpus_raises_only_declared_errors(path: Path) -> None:
    await try_all(TARGETS[path.parent.name], [path.read_bytes()])


@pytest.mark.random
@pytest.mark.parametrize("name", TARGETS)
async def test_changed_inputs_raise_only_declared_errors(name: str) -> None:
    target, corpus = TARGETS[name], corpus_of(name)
    inputs = (
        mutated(corpus, random.Random(f"{name} {seed}"), is_text=target.is_text) for seed in seeds(target.num_inputs)
    )
    try:
        slowest_s, slowest = await try_all(target, inputs)
    except Crash as crash:
        (CORPUS / name / f"new-{hashlib.sha256(crash.data).hexdigest()[:12]}").write_bytes(crash.data)
        raise
    print(
        f"{name}: {len(seeds(target.num_inputs))} inputs; the slowest took {slowest_s * 1000:.1f} ms: {slowest[:60]!r}"
    )


async def test_changed_inputs_find_what_our_guard_before_aioice_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the changes are odd enough: without the guard, aioice's parser fails on one of them within seconds."""
    monkeypatch.setattr(ice, "_is_stun", lambda data: True)
    inputs = (mutated(corpus_of("stun"), random.Random(seed), is_text=False) for seed in range(5000))
    with pytest.raises(Crash) as caught:
        await try_all(TARGETS["stun"], inputs)
    assert type(caught.value.__cause__).__name__ == "error"


def test_the_corpus_is_small_and_has_examples_for_each_target() -> None:
    assert {path.parent.name for path in FILES} == set(TARGETS)
    assert sum(path.stat().st_size for path in FILES) <= MAX_CORPUS_BYTES
