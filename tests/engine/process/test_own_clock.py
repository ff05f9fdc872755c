"""The engine's own clock: scripted samples of threads, then the kernel's samples of real threads."""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path

import pytest

from engine.process.own_clock import LOOK_EVERY_S, CoreShare, Sample, Silence, Thread, Watch, threads_of

has_schedstat = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="only Linux tells")


def threads(*counts: tuple[float, float, bool]) -> Sample:
    """(run, waited, is runnable) of threads 1, 2, ..."""
    return {number: Thread(*count) for number, count in enumerate(counts, 1)}


def own_s(*samples: Sample, every_s: float = 0.5) -> list[float]:
    """The process's own time in each span between the samples."""
    watch = Watch(0.0, samples[0])
    return [round(watch.span(every_s * k, sample).own_s, 3) for k, sample in enumerate(samples[1:], 1)]


# --- spans --------------------------------------------------------------------------------------------------------


def test_a_deadlock_counts_fully_as_own_time() -> None:
    asleep = threads((1.0, 1.0, False), (1.0, 1.0, False))
    assert own_s(asleep, asleep, asleep) == [0.5, 0.5]


def test_a_process_that_never_gets_a_core_has_no_own_time() -> None:
    waiting = threads((1.0, 1.0, True))
    assert own_s(waiting, waiting, waiting) == [0.0, 0.0]


def test_a_wait_counts_once_although_the_kernel_reports_it_at_its_end() -> None:
    waiting, ran, asleep = (1.0, 1.0, True), (1.1, 2.4, False), (1.1, 2.4, False)
    # 1.0 s of the 1.4 s were counted while they lasted.
    assert own_s(*map(threads, (waiting, waiting, waiting, ran, asleep))) == [0.0, 0.0, 0.1, 0.5]


def test_a_starved_threads_wait_is_no_own_time_after_a_short_run() -> None:
    assert own_s(threads((1.0, 1.0, True)), threads((1.003, 1.0, True))) == [0.003]


def test_a_spinning_loop_has_own_time_on_a_busy_machine_too() -> None:
    counts = [(0.2 * k, 0.3 * k, True) for k in range(4)]
    assert own_s(*map(threads, counts)) == [0.2, 0.2, 0.2]


def test_many_threads_that_spin_cannot_hide_each_other() -> None:
    samples = [threads(*[(0.1 * k, 0.4 * k, True)] * 8) for k in range(3)]
    assert own_s(*samples) == [0.1, 0.1]


def test_a_loop_that_waits_for_its_starved_helper_has_no_own_time() -> None:
    before = threads((1.0, 0.0, False), (1.0, 0.0, True))
    after = threads((1.05, 0.2, False), (1.05, 0.2, True))
    assert own_s(before, after) == [0.05]


def test_new_and_gone_threads_and_reused_ids_count_for_the_span_at_most() -> None:
    first = {1: Thread(1.0, 1.0, False), 2: Thread(9.0, 9.0, False)}
    second = {1: Thread(1.0, 1.0, False), 2: Thread(0.0, 0.3, False), 3: Thread(0.0, 0.1, False)}
    assert own_s(first, second) == [0.1]
    assert own_s(first, {}) == [0.5]


def test_a_clock_that_stops_or_goes_back_gives_no_time() -> None:
    asleep = threads((1.0, 1.0, False))
    assert own_s(asleep, asleep, every_s=0.0) == [0.0]
    assert own_s(asleep, asleep, every_s=-1.0) == [0.0]


# --- silence ------------------------------------------------------------------------------------------------------


def looked_at(sample: Sample | None, num_looks: int, *, every_s: float = LOOK_EVERY_S) -> Silence:
    silence = Silence(3.0, 30.0, now=0.0)
    for look in range(1, num_looks + 1):
        silence.look(look * every_s, sample)
    return silence


def test_own_silence_ends_patience_but_a_wait_for_a_core_does_not() -> None:
    asleep, waiting = threads((1.0, 1.0, False)), threads((1.0, 1.0, True))
    assert not looked_at(asleep, 3).is_over_patience
    assert looked_at(asleep, 4).is_over_patience
    starved = looked_at(waiting, 10_000)
    assert not starved.is_over_patience
    assert starved.own_s == LOOK_EVERY_S  # before the first look


def test_a_late_look_is_not_counted_as_silence() -> None:
    assert not looked_at(threads((1.0, 1.0, False)), 3, every_s=100.0).is_over_patience


def test_patience_is_longer_if_the_kernel_reports_nothing() -> None:
    assert not looked_at(None, 39).is_over_patience
    assert looked_at(None, 40).is_over_patience


# --- the share of a core ------------------------------------------------------------------------------------------


def share_of(counts: list[tuple[float, float]], *, now: float | None = None) -> float | None:
    """The share of one thread with these run and wait times, sampled once a second."""
    share = CoreShare()
    for second, (run_s, waited_s) in enumerate(counts):
        share.add(float(second), threads((run_s, waited_s, True)))
    return share.share(float(len(counts)) if now is None else now)


def test_the_share_is_run_time_over_wanted_time() -> None:
    assert share_of([(0.25 * k, 0.75 * k) for k in range(6)]) == pytest.approx(0.25)
    assert share_of([(0.3 * k, 0.0) for k in range(9)]) == pytest.approx(1.0)  # it sleeps for the rest


def test_there_is_no_share_without_recent_evidence() -> None:
    assert share_of([]) is None
    assert share_of([(0.1 * k, 0.1 * k) for k in range(6)]) is None
    assert share_of([(0.25 * k, 0.75 * k) for k in range(6)], now=100.0) is None


def test_only_the_last_seconds_of_work_count() -> None:
    hindered = [(0.1 * k, 0.9 * k) for k in range(20)]
    free = [(1.9 + 1.0 * k, 17.1) for k in range(1, 11)]
    assert share_of(hindered + free) == pytest.approx(1.0)


def test_time_between_two_periods_of_work_does_not_count() -> None:
    share = CoreShare()
    share.begin(0.0, threads((0.0, 0.0, True)))
    share.add(4.0, threads((4.0, 0.0, False)))
    share.begin(20.0, threads((4.0, 16.0, False)))
    share.add(24.0, threads((8.0, 16.0, False)))
    assert share.share(24.0) == pytest.approx(1.0)


def test_the_next_process_s_threads_are_not_compared_with_the_last_one_s() -> None:
    share = CoreShare()
    share.begin(0.0, threads((10.0, 0.0, True)))
    share.end()
    share.add(1.0, threads((100.0, 300.0, True)))
    assert share.share(1.0) is None


def test_it_is_starved_below_a_half_until_it_has_clearly_more() -> None:
    share = CoreShare()
    said = []
    run_s = waited_s = 0.0
    for second, of_it in enumerate([0.9] * 12 + [0.4] * 12 + [0.55] * 12 + [0.9] * 12):
        run_s, waited_s = run_s + of_it, waited_s + 1 - of_it
        share.add(float(second), threads((run_s, waited_s, True)))
        said.append(share.is_starved(float(second)))
    assert (said[11], said[23], said[35], said[47]) == (False, True, True, False)
    assert sum(before is not after for before, after in itertools.pairwise(said)) == 2
    assert share.is_starved(1000.0) is False


# --- what the kernel tells ----------------------------------------------------------------------------------------


@has_schedstat
def test_the_threads_of_a_process_are_read_whatever_its_name() -> None:
    ended, started = threading.Event(), threading.Event()
    sleeper = threading.Thread(target=lambda: (started.set(), ended.wait()))
    sleeper.start()
    started.wait()
    sample = threads_of(os.getpid())
    assert sample is not None
    assert sleeper.native_id in sample
    mine = sample[threading.get_native_id()]
    assert mine.is_runnable and mine.run_s > 0.0
    ended.set()
    sleeper.join()


@has_schedstat
def test_a_process_that_has_gone_has_no_threads() -> None:
    assert threads_of(2**22 + 1) == {}
