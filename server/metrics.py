"""The Prometheus metrics of `/metrics`. One `CollectorRegistry` per application, so that tests do not share one.

Counters are incremented where the event happens (`session.py`, once a second for the program's). Gauges and the
engine's counters are read at scrape time through `bind`. On the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.api import CostEntry, EngineState, EngineStatistics

# With a label of their own.
MAX_KEYS = 200
_SECONDS = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 15.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class ProgramCounts:
    """A program's counts in some span of time, or since its start."""

    frames_due: int = 0
    frames_sent: int = 0
    frames_late: int = 0
    frames_encoded: int = 0
    bytes_sent: int = 0
    encode_s: float = 0.0
    compose_s: float = 0.0

    def since(self, earlier: ProgramCounts) -> ProgramCounts:
        return ProgramCounts(
            frames_due=self.frames_due - earlier.frames_due,
            frames_sent=self.frames_sent - earlier.frames_sent,
            frames_late=self.frames_late - earlier.frames_late,
            frames_encoded=self.frames_encoded - earlier.frames_encoded,
            bytes_sent=self.bytes_sent - earlier.bytes_sent,
            encode_s=self.encode_s - earlier.encode_s,
            compose_s=self.compose_s - earlier.compose_s,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The server's state at the moment of a scrape."""

    num_sessions: int
    num_detached: int
    num_viewers: int
    num_recordings: int
    worst_play_ratio: float  # over the open sessions; 1.0 without any
    engine_state: EngineState
    engine: EngineStatistics
    costs: tuple[CostEntry, ...]
    peak_memory_bytes: int
    num_queued: int  # controllers that wait for a stage
    load: float  # expected engine seconds a second, over the sessions


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._prompts = self._counter("sceneshift_prompts", "Prompts by their end", ["end"])
        self._preview_s = self._histogram(
            "sceneshift_prompt_to_preview_seconds", "Prompt received to the first sent frame that shows its preview"
        )
        self._picture_s = self._histogram(
            "sceneshift_prompt_to_picture_seconds", "Prompt received to the first sent frame of its finished clip"
        )
        self._continued = self._counter("sceneshift_continuations", "Clips that continued a scene", ["timing"])
        self._degraded = self._counter("sceneshift_generations_degraded", "Generations that the engine degraded")
        self._refusals = self._counter("sceneshift_refusals", "Requests refused, by error code", ["code"])
        self._packets_dropped = self._counter(
            "sceneshift_packets_dropped", "UDP packets of viewers and strangers that were dropped", ["reason"]
        )
        self._webhooks = self._counter(
            "sceneshift_webhook_attempts", "Attempts to deliver an event, by what became of it", ["status"]
        )
        self._recordings_failed = self._counter(
            "sceneshift_recordings_failed", "Recordings that could not begin, or ended by themselves"
        )
        self._frames_due = self._counter("sceneshift_frames_due", "Program frames that were due")
        self._frames_sent = self._counter("sceneshift_frames_sent", "Program frames sent")
        self._frames_late = self._counter("sceneshift_frames_late", "Program frames sent late")
        self._frames_encoded = self._counter("sceneshift_frames_encoded", "Program frames encoded")
        self._bytes_sent = self._counter("sceneshift_sent_bytes", "Encoded bytes handed to viewers")
        self._encode_s = self._counter("sceneshift_encode_seconds", "Time spent encoding")
        self._compose_s = self._counter("sceneshift_compose_seconds", "Time spent composing")

    def bind(self, take_snapshot: Callable[[], Snapshot]) -> None:
        """From now on each scrape calls `take_snapshot`."""
        self.registry.register(_SnapshotCollector(take_snapshot))

    def bind_spent(self, spent_s: Callable[[], Mapping[str, float]]) -> None:
        """From now on each scrape asks for the engine seconds by key; only the first `MAX_KEYS` have a label."""
        self.registry.register(_SpentCollector(spent_s))

    def prompt_ended(self, end: str) -> None:
        self._prompts.labels(end=end).inc()

    def preview_shown(self, seconds: float) -> None:
        self._preview_s.observe(seconds)

    def picture_shown(self, seconds: float) -> None:
        self._picture_s.observe(seconds)

    def scene_continued(self, *, is_late: bool) -> None:
        self._continued.labels(timing="late" if is_late else "in_time").inc()

    def generation_degraded(self) -> None:
        self._degraded.inc()

    def webhook_attempted(self, status: str) -> None:
        """`delivered`, `pending` (it comes again) or `failed`."""
        self._webhooks.labels(status=status).inc()

    def refused(self, code: str) -> None:
        """`code` is one of ours, so the number of labels is bounded."""
        self._refusals.labels(code=code).inc()

    def packet_dropped(self, reason: str) -> None:
        """`reason` is one of `ice`'s, so the number of labels is bounded."""
        self._packets_dropped.labels(reason=reason).inc()

    def recording_failed(self) -> None:
        self._recordings_failed.inc()

    def program_ran(self, counts: ProgramCounts) -> None:
        self._frames_due.inc(counts.frames_due)
        self._frames_sent.inc(counts.frames_sent)
        self._frames_late.inc(counts.frames_late)
        self._frames_encoded.inc(counts.frames_encoded)
        self._bytes_sent.inc(counts.bytes_sent)
        self._encode_s.inc(counts.encode_s)
        self._compose_s.inc(counts.compose_s)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, labels: list[str] | None = None) -> Counter:
        return Counter(name, text, labels or [], registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, buckets=_SECONDS, registry=self.registry)


class _SnapshotCollector(Collector):
    def __init__(self, take_snapshot: Callable[[], Snapshot]) -> None:
        self._take_snapshot = take_snapshot

    def describe(self) -> list[Metric]:
        return []  # do not scrape at registration

    def collect(self) -> Iterator[Metric]:
        now = self._take_snapshot()
        engine = now.engine
        yield _gauge("sceneshift_sessions", "Sessions, detached ones included", now.num_sessions)
        yield _gauge("sceneshift_sessions_detached", "Sessions whose controller is gone", now.num_detached)
        yield _gauge("sceneshift_viewers", "Connected viewers", now.num_viewers)
        yield _gauge("sceneshift_recordings", "Recordings that run", now.num_recordings)
        yield _gauge("sceneshift_play_ratio_worst", "Lowest continuous play ratio", now.worst_play_ratio)
        yield _gauge("sceneshift_sessions_queued", "Controllers that wait for a stage", now.num_queued)
        yield _gauge(
            "sceneshift_engine_load", "Engine seconds a second that the sessions are expected to need", now.load
        )
        yield _gauge("sceneshift_engine_peak_memory_bytes", "Peak of the device memory in use", now.peak_memory_bytes)
        yield from _costs(now.costs)
        yield from _cache(engine.extra)
        yield _gauge("sceneshift_engine_in_flight", "Generations queued or running", engine.in_flight)
        state = GaugeMetricFamily("sceneshift_engine_state", "1 for the engine's state", labels=["state"])
        for candidate in EngineState:
            state.add_metric([candidate], float(candidate is now.engine_state))
        yield state
        yield _counter("sceneshift_engine_restarts", "Engine processes replaced", engine.num_restarts)
        yield _counter("sceneshift_engine_steps", "Denoising steps done", engine.num_steps)
        yield _counter("sceneshift_engine_busy_seconds", "Time the engine worked", engine.busy_s)
        if engine.core_share is not None:
            yield _gauge(
                "sceneshift_engine_core_share_ratio",
                "Share of the wanted core time that the working engine got",
                engine.core_share,
            )
        yield _counter("sceneshift_engine_previews_dropped", "Previews that were not read", engine.num_previews_dropped)
        ends = CounterMetricFamily("sceneshift_generations", "Generations by their end", labels=["end"])
        ends.add_metric(["finished"], engine.num_finished)
        ends.add_metric(["cancelled"], engine.num_cancelled)
        ends.add_metric(["failed"], engine.num_failed)
        yield ends


class _SpentCollector(Collector):
    def __init__(self, spent_s: Callable[[], Mapping[str, float]]) -> None:
        self._spent_s = spent_s

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        spent = CounterMetricFamily("sceneshift_key_engine_seconds", "Engine seconds by key", labels=["key"])
        rows = list(self._spent_s().items())
        for name, seconds in rows[:MAX_KEYS]:
            spent.add_metric([name], seconds)
        if rows[MAX_KEYS:]:
            spent.add_metric(["(others)"], sum(seconds for _, seconds in rows[MAX_KEYS:]))
        yield spent


def _costs(costs: tuple[CostEntry, ...]) -> Iterator[Metric]:
    seconds = GaugeMetricFamily("sceneshift_engine_cost_seconds", "Time that a piece of work takes", labels=["what"])
    error = GaugeMetricFamily(
        "sceneshift_engine_cost_error_ratio", "|predicted - measured| / measured, 90th percentile", labels=["what"]
    )
    for cost in costs:
        seconds.add_metric([cost.what], cost.seconds)
        error.add_metric([cost.what], cost.error)
    yield seconds
    yield error


def _cache(extra: dict[str, float]) -> Iterator[Metric]:
    """Nothing without a cache."""
    if "cache_hits" not in extra:
        return
    yield _counter("sceneshift_cache_hits", "Clips reused from the cache", extra["cache_hits"])
    yield _counter(
        "sceneshift_cache_misses", "Clips that might have been reused, but were not in the cache", extra["cache_misses"]
    )
    kept = GaugeMetricFamily("sceneshift_cache_bytes", "Clips kept", labels=["store"])
    for store in ("memory", "disk"):
        kept.add_metric([store], extra[f"cache_{store}_bytes"])
    yield kept


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)
