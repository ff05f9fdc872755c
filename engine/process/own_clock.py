"""How long the engine process has been silent on its *own* clock: the time in which it ran, slept or was stopped.

A machine without a core to spare must not make a healthy engine look hung, so time in which the process wanted to run
and could not does not count. Linux tells that of each thread (`/proc/PID/task/TID/schedstat`: time run, time waited in
the run queue). What remains is what a hang looks like: a deadlock sleeps, a device that never answers blocks in the
kernel, a stopped process is in no run queue, and a loop without a beat runs.

`Watch`, `Silence` and `CoreShare` are pure and are fed samples; `threads_of` takes one. All live in the server's
process, on the event loop, with `engine.process.supervisor`.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# How often a silent process is looked at. An idle engine beats every half second, so a healthy one never is.
LOOK_EVERY_S = 0.75

# `CoreShare` looks back over so many seconds of work, and forgets what is so old.
_WINDOW_S = 10.0
_FORGET_AFTER_S = 60.0
# Less is no evidence: so many seconds must the threads have run or waited in all.
_MIN_WANTED_S = 2.0
# With half of what it wants, the engine takes twice as long: people notice. The gap keeps the word from flickering.
_STARVED_BELOW = 0.5
_FED_ABOVE = 0.6


@dataclass(frozen=True, slots=True)
class Thread:
    """What the kernel has counted of one thread since it began, and whether it runs or waits for a core now."""

    run_s: float
    waited_s: float  # in the run queue; the kernel adds a wait only when the thread gets its core
    is_runnable: bool


Sample = Mapping[int, Thread]  # by thread id


def threads_of(pid: int) -> Sample | None:
    """The threads of a process; None if the kernel does not tell (other systems, hardened ones, no descriptor free).

    A process that has gone has none. A thread that ends while this reads is left out.
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
    # proc(5): the state comes after the name, which may hold anything. R is on a core or in the queue for one.
    state = (folder / "stat").read_bytes().rpartition(b")")[2].split()[0]
    return Thread(int(run_ns) * 1e-9, int(waited_ns) * 1e-9, state == b"R")


@dataclass(frozen=True, slots=True)
class Span:
    """What a process did between two samples. `longest_run_s` is one thread's, the other sums are over all."""

    seconds: float
    longest_run_s: float
    waited_s: float  # with the waits that have not ended

    @property
    def own_s(self) -> float:
        """The part that is the process's own: what its busiest thread ran, or all in which no thread waited.

        The first finds a loop that spins, however busy the machine. For the second, the waits of several threads add
        up, because they take turns more often than they wait together: the loop sleeps until its helper had a core.
        """
        return min(self.seconds, max(self.longest_run_s, self.seconds - self.waited_s))


class Watch:
    """Makes spans of samples.

    A thread that is runnable has waited for all of the span that it did not run, although the kernel will only tell
    when it gets its core: so what was counted in advance is set off against what is told later.
    """

    def __init__(self, now: float, sample: Sample) -> None:
        self._at = now
        self._last = sample
        self._ahead_s: dict[int, float] = {}  # by thread: waits that were counted before the kernel told of them

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
    """Seconds run and waited since `before`; since its beginning, for a thread that is new or has an old one's id."""
    if before is None or now.run_s < before.run_s or now.waited_s < before.waited_s:
        return now.run_s, now.waited_s
    return now.run_s - before.run_s, now.waited_s - before.waited_s


class Silence:
    """How long a process has said nothing, and how much of that was its own time.

    What lies between two looks counts for one look's time at most: who looks late was held up itself, and can say
    nothing of the time between. So does the time before the first look.
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
    """How much of the time in which the engine's threads wanted a core they had one, while there was work.

    ``run / (run + waited)``, summed over the threads and over the last seconds of work: 1 for an engine that nobody
    hinders, whatever it computes with; 0.5 if everything takes twice as long. Without work nothing is measured, and
    what was measured is forgotten after a while.
    """

    def __init__(self) -> None:
        self._last: Sample = {}
        self._sampled_at: float | None = None
        self._spans: deque[tuple[float, float, float, float]] = deque()  # at, seconds, run, waited
        self._is_starved = False

    def begin(self, now: float, sample: Sample) -> None:
        """Work begins: what lay before does not count."""
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
        """The process is gone, and another's threads are not compared with it."""
        self._sampled_at, self._last = None, {}

    def share(self, now: float) -> float | None:
        """None without evidence."""
        while self._spans and now - self._spans[0][0] > _FORGET_AFTER_S:
            self._spans.popleft()
        run_s = sum(run for _, _, run, _ in self._spans)
        wanted_s = run_s + sum(waited for _, _, _, waited in self._spans)
        return run_s / wanted_s if wanted_s >= _MIN_WANTED_S else None

    def is_starved(self, now: float) -> bool:
        """Whether people should be told."""
        share = self.share(now)
        self._is_starved = share is not None and share < (_FED_ABOVE if self._is_starved else _STARVED_BELOW)
        return self._is_starved
