"""Measures how long the engine process has been silent on its *own* clock: time in which it ran, slept or was stopped.

A busy machine must not make a healthy engine look hung, so time in which the process waited for a core does not count.
Linux reports that for each thread (`/proc/PID/task/TID/schedstat`: time run, time waited in the run queue). A hang
still counts: a deadlock sleeps, a device that never answers blocks in the kernel, a stopped process is in no run queue,
and an endless loop runs.

`Watch`, `Silence` and `CoreShare` are pure and take samples; `threads_of` reads one. `Silence` and `CoreShare` live in
the server's process, on the event loop of `engine.process.supervisor`. The engine process uses `Watch` to time its
warm-up.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# How often we look at a silent process. An idle engine beats every half second, so we never look at a healthy one.
LOOK_EVERY_S = 0.75

# `CoreShare` covers this many seconds of work, and drops measurements that are older than this.
_WINDOW_S = 10.0
_FORGET_AFTER_S = 60.0
# There is no evidence until the threads have run or waited for this long in total.
_MIN_WANTED_S = 2.0
# With half of the core time that it wants, the engine takes twice as long, and people notice. The gap between the two
# numbers keeps the warning from flickering.
_STARVED_BELOW = 0.5
_FED_ABOVE = 0.6


@dataclass(frozen=True, slots=True)
class Thread:
    """The kernel's counters of one thread since its start, and whether it runs or waits for a core now."""

    run_s: float
    waited_s: float  # in the run queue; the kernel adds a wait only when the thread gets its core
    is_runnable: bool


Sample = Mapping[int, Thread]  # by thread id


def threads_of(pid: int) -> Sample | None:
    """The threads of a process. None if the kernel does not report them (not Linux, hardened, no free descriptor).

    A process that has ended has no threads. A thread that ends during the reading is left out.
    """
    if not Path("/proc/self/schedstat").exists():
        return None
    found: dict[int, Thread] = {}
    try:
        for folder in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found[int(folder.name)] = _thread(folder)
    except (FileNotFoundError, ProcessLookupError):
        return {}
    except OSError:
        return None
    return found


def _thread(folder: Path) -> Thread:
    run_ns, waited_ns, _ = (folder / "schedstat").read_bytes().split()
    # proc(5): the state follows the name, which may hold any character. R: on a core or in the run queue.
    state = (folder / "stat").read_bytes().rpartition(b")")[2].split()[0]
    return Thread(int(run_ns) * 1e-9, int(waited_ns) * 1e-9, state == b"R")


@dataclass(frozen=True, slots=True)
class Span:
    """What a process did between two samples. `longest_run_s` is of the busiest thread, `waited_s` sums over all."""

    seconds: float
    longest_run_s: float
    waited_s: float  # includes waits that have not ended

    @property
    def own_s(self) -> float:
        """The process's own time: what its busiest thread ran, or the time in which no thread waited, if that is more.

        The first finds an endless loop, however busy the machine. The second adds up the waits of all threads, because
        threads wait in turn more often than together: the loop sleeps until its helper has had a core.
        """
        return min(self.seconds, max(self.longest_run_s, self.seconds - self.waited_s))


class Watch:
    """Turns samples into spans.

    A runnable thread has waited for all of the span in which it did not run. The kernel reports that wait only when the
    thread gets a core, so we count it in advance and subtract it from the later report.
    """

    def __init__(self, now: float, sample: Sample) -> None:
        self._at = now
        self._last = sample
        self._ahead_s: dict[int, float] = {}  # by thread: waits counted before the kernel reported them

    def span(self, now: float, sample: Sample) -> Span:
        """From the last sample until this one."""
        seconds = max(0.0, now - self._at)
        longest_run_s = waited_s = 0.0
        ahead_s: dict[int, float] = {}
        for thread_id, thread in sample.items():
            run_s, told_s = _grown(self._last.get(thread_id), thread)
            run_s = min(run_s, seconds)
            told_s -= self._ahead_s.get(thread_id, 0.0)
            thread_waited_s = min(max(told_s, 0.0), seconds - run_s)
            if thread.is_runnable:
                thread_waited_s = seconds - run_s
                ahead_s[thread_id] = max(0.0, thread_waited_s - told_s)
            longest_run_s = max(longest_run_s, run_s)
            waited_s += thread_waited_s
        self._at, self._last, self._ahead_s = now, sample, ahead_s
        return Span(seconds, longest_run_s, waited_s)


def _grown(before: Thread | None, now: Thread) -> tuple[float, float]:
    """Seconds run and waited since `before`; since the thread's start, if it is new or reuses an id."""
    if before is None or now.run_s < before.run_s or now.waited_s < before.waited_s:
        return now.run_s, now.waited_s
    return now.run_s - before.run_s, now.waited_s - before.waited_s


class Silence:
    """How long a process has been silent, and how much of that was its own time.

    The time between two looks counts as `LOOK_EVERY_S` at most: if we look late, we were held up ourselves and cannot
    judge the time between. The same limit holds for the time before the first look.
    """

    def __init__(self, patience_s: float, blind_patience_s: float, now: float) -> None:
        self._patience_s = patience_s
        self._blind_patience_s = blind_patience_s
        self._began_at = self._looked_at = now
        self._watch: Watch | None = None
        self._is_blind = False
        self.own_s = 0.0
        self.seconds = 0.0

    def look(self, now: float, sample: Sample | None) -> None:
        own_s = now - self._looked_at
        self._is_blind = sample is None
        if sample is not None:
            if self._watch is None:
                self._watch = Watch(now, sample)
            else:
                own_s = self._watch.span(now, sample).own_s
        self.own_s += min(max(own_s, 0.0), LOOK_EVERY_S)
        self.seconds = now - self._began_at
        self._looked_at = now

    @property
    def is_over_patience(self) -> bool:
        patience_s = self._patience_s if not self._is_blind else max(self._patience_s, self._blind_patience_s)
        return self.own_s >= patience_s


class CoreShare:
    """The time in which the engine's threads had a core, as a share of the time in which they wanted one, during work.

    ``run / (run + waited)``, summed over the threads and over the last seconds of work. 1: nothing hinders the engine,
    whatever it computes with. 0.5: everything takes twice as long. Without work nothing is measured, and old
    measurements are dropped.
    """

    def __init__(self) -> None:
        self._last: Sample = {}
        self._sampled_at: float | None = None
        self._spans: deque[tuple[float, float, float, float]] = deque()  # at, seconds, run, waited
        self._is_starved = False

    def begin(self, now: float, sample: Sample) -> None:
        """Work begins; the time before it does not count."""
        self._sampled_at, self._last = now, sample

    def add(self, now: float, sample: Sample) -> None:
        """Work has gone on since the last sample."""
        if self._sampled_at is None:
            self.begin(now, sample)
            return
        run_s = waited_s = 0.0
        for thread_id, thread in sample.items():
            grown = _grown(self._last.get(thread_id), thread)
            run_s, waited_s = run_s + grown[0], waited_s + grown[1]
        self._spans.append((now, now - self._sampled_at, run_s, waited_s))
        self._sampled_at, self._last = now, sample
        while len(self._spans) > 1 and sum(seconds for _, seconds, _, _ in self._spans) > _WINDOW_S:
            self._spans.popleft()

    def end(self) -> None:
        """The process is gone; the next one's threads are not compared with its threads."""
        self._sampled_at, self._last = None, {}

    def share(self, now: float) -> float | None:
        """None without enough evidence."""
        while self._spans and now - self._spans[0][0] > _FORGET_AFTER_S:
            self._spans.popleft()
        run_s = sum(run for _, _, run, _ in self._spans)
        wanted_s = run_s + sum(waited for _, _, _, waited in self._spans)
        return run_s / wanted_s if wanted_s >= _MIN_WANTED_S else None

    def is_starved(self, now: float) -> bool:
        """Whether the share is so low that people should be told."""
        share = self.share(now)
        self._is_starved = share is not None and share < (_FED_ABOVE if self._is_starved else _STARVED_BELOW)
        return self._is_starved
