"""Chooses the rendition that one viewer's network carries: down on loss or a low estimate, up by probing.

Pure; the caller gives the time. It takes the receiver's reports (RTCP, about once a second) and decides. One for each
viewer, owned by its sender, on the event loop.

    steady ──loss or low estimate──▶ one rendition lower, steady again after `SETTLE_S`
    steady ──quiet for `wait_s`────▶ probing: the sender adds as much as the better rendition would
    probing ──no harm for PROBE_S──▶ one rendition higher
    probing ──loss or low estimate─▶ steady, and the next probe waits twice as long

Retransmission repairs the usual loss of a network (radio), so that is no reason to go down. The reasons are high loss
twice in a row, and an estimate below the sent rate for some seconds. A probe sends packets that were sent before: a
receiver throws duplicates away, and some of them repair a loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# Fraction of packets lost in one report. Retransmission repairs a few per cent; libwebrtc's own controller calls more
# than 10 % congestion.
HIGH_LOSS = 0.10
EXTREME_LOSS = 0.30
# A probe does harm if it raises the loss by more than this.
PROBE_LOSS = 0.03
# The receiver's estimate (REMB) falls to 0.85 of what arrives when delay grows, and is above it otherwise.
LOW_ESTIMATE = 0.95
# How many bad reports in a row are believed. Estimates alone also fall when the viewer's own machine is busy.
NUM_LOSSY, NUM_LOW = 2, 4
SETTLE_S = 2.0
PROBE_S = 3.0
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 80.0
# A step up that is reversed within this time was a mistake, and makes the next probe wait.
MISTAKE_S = 10.0


class Mode(StrEnum):
    STEADY = "steady"
    PROBING = "probing"


@dataclass(frozen=True, slots=True)
class Report:
    """A receiver's report. `estimate` is its REMB, `sent_rate` what was sent to it meanwhile, in bits per second."""

    fraction_lost: float
    estimate: int | None
    sent_rate: float


class Adaptation:
    """`level` counts renditions from the best, 0, to `num_levels` - 1."""

    def __init__(self, num_levels: int, now: float) -> None:
        self.level = 0
        self.mode = Mode.STEADY
        self._num_levels = num_levels
        self._changed_at = float("-inf")
        self._quiet_since = now
        self._wait_s = FIRST_WAIT_S
        self._num_lossy = self._num_low = 0
        self._loss_before = 0.0
        self._climbed_at = float("-inf")

    def receive(self, report: Report, now: float) -> bool:
        """Take a report in. True if `level` changed."""
        if now - self._changed_at < SETTLE_S:
            return False  # it is about packets from before the last change
        is_lossy, is_low = report.fraction_lost >= HIGH_LOSS, _is_estimate_low(report)
        is_worse = is_lossy or is_low or report.fraction_lost > self._loss_before + PROBE_LOSS
        if self.mode is Mode.PROBING:
            return self._end_probe(now) if is_worse else self._climb_if_proven(now)
        self._num_lossy = self._num_lossy + 1 if is_lossy else 0
        self._num_low = self._num_low + 1 if is_lossy or is_low else 0
        is_believed = self._num_lossy >= NUM_LOSSY or self._num_low >= NUM_LOW
        if is_believed or report.fraction_lost >= EXTREME_LOSS:
            return self._descend(now)
        if is_lossy or is_low:
            self._quiet_since = now
        elif self.level > 0 and now - self._quiet_since >= self._wait_s:
            self.mode = Mode.PROBING
            self._loss_before = report.fraction_lost
            self._changed_at = now
        return False

    def _descend(self, now: float) -> bool:
        if now - self._climbed_at < MISTAKE_S:
            self._wait_longer()
        self._num_lossy = self._num_low = 0
        self._changed_at = self._quiet_since = now
        if self.level == self._num_levels - 1:
            return False
        self.level += 1
        return True

    def _end_probe(self, now: float) -> bool:
        self.mode = Mode.STEADY
        self._wait_longer()
        self._changed_at = self._quiet_since = now
        return False

    def _climb_if_proven(self, now: float) -> bool:
        if now - self._changed_at < PROBE_S:
            return False
        self.mode = Mode.STEADY
        self.level -= 1
        self._changed_at = self._quiet_since = self._climbed_at = now
        if self.level == 0:
            self._wait_s = FIRST_WAIT_S
        return True

    def _wait_longer(self) -> None:
        self._wait_s = min(LONGEST_WAIT_S, 2 * self._wait_s)


def _is_estimate_low(report: Report) -> bool:
    return report.estimate is not None and report.estimate < LOW_ESTIMATE * report.sent_rate
