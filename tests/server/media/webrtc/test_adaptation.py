"""One viewer's rendition, with scripted reports of its network."""

from __future__ import annotations

from server.media.webrtc.adaptation import FIRST_WAIT_S, PROBE_S, SETTLE_S, Adaptation, Mode, Report

GOOD = Report(0.0, None, 1e6)


class Viewer:
    def __init__(self) -> None:
        self.now = 100.0
        self.adaptation = Adaptation(3, self.now)

    def hear(self, report: Report, seconds: int = 1) -> list[int]:
        """Gives one such report each second; returns the level after each."""
        levels = []
        for _ in range(seconds):
            self.now += 1.0
            self.adaptation.receive(report, self.now)
            levels.append(self.adaptation.level)
        return levels


def lossy(share: float) -> Report:
    return Report(share, None, 1e6)


def test_a_good_network_keeps_the_best() -> None:
    viewer = Viewer()
    assert set(viewer.hear(GOOD, 100)) == {0}


def test_loss_that_retransmission_repairs_keeps_the_rendition() -> None:
    viewer = Viewer()
    assert set(viewer.hear(lossy(0.05), 100)) == {0}


def test_two_bad_reports_in_a_row_lower_the_rendition_and_one_does_not() -> None:
    viewer = Viewer()
    viewer.hear(GOOD, 5)
    assert viewer.hear(lossy(0.15)) == [0]
    assert viewer.hear(GOOD) == [0]
    assert viewer.hear(lossy(0.15), 2) == [0, 1]


def test_extreme_loss_is_answered_at_once() -> None:
    viewer = Viewer()
    viewer.hear(GOOD, 5)
    assert viewer.hear(lossy(0.5)) == [1]


def test_only_estimates_below_the_sent_rate_lower_the_rendition() -> None:
    viewer = Viewer()
    viewer.hear(GOOD, 5)
    assert viewer.hear(Report(0.0, 1_100_000, 1e6), 3) == [0, 0, 0]
    assert viewer.hear(Report(0.0, 850_000, 1e6), 4) == [0, 0, 0, 1]
    # A calm scene sends little, so an estimate below the ceiling means nothing.
    assert viewer.hear(Report(0.0, 300_000, 2e5), 10)[-1] <= 1


def test_an_estimate_that_is_low_for_a_moment_keeps_the_rendition() -> None:
    viewer = Viewer()
    for _ in range(20):
        assert viewer.hear(Report(0.0, 850_000, 1e6), 2) == [0, 0]
        viewer.hear(GOOD)


def test_reports_right_after_a_change_are_ignored() -> None:
    viewer = Viewer()
    viewer.hear(GOOD, 5)
    viewer.hear(lossy(0.5))
    assert viewer.hear(lossy(0.5), int(SETTLE_S) - 1) == [1] * (int(SETTLE_S) - 1)
    assert viewer.hear(lossy(0.5), 3)[-1] == 2


def test_there_is_nothing_below_the_lowest() -> None:
    viewer = Viewer()
    assert viewer.hear(lossy(0.9), 60)[-1] == 2


def test_when_the_network_is_good_again_it_climbs_by_probing() -> None:
    viewer = Viewer()
    viewer.hear(GOOD, 5)
    viewer.hear(lossy(0.5))
    modes = []
    for _ in range(30):
        viewer.hear(GOOD)
        modes.append(viewer.adaptation.mode)
    assert Mode.PROBING in modes
    assert viewer.adaptation.level == 0
    assert modes.index(Mode.PROBING) >= FIRST_WAIT_S - 1


def test_a_probe_that_does_harm_changes_nothing_and_the_next_one_waits_longer() -> None:
    viewer = Viewer()
    viewer.hear(GOOD, 5)
    viewer.hear(lossy(0.5))
    waits, waited = [], 0
    for _ in range(120):
        is_probing = viewer.adaptation.mode is Mode.PROBING
        was_probing = is_probing
        assert viewer.hear(lossy(0.2) if is_probing else GOOD) == [1]
        waited += 1
        if not was_probing and viewer.adaptation.mode is Mode.PROBING:
            waits.append(waited)
            waited = 0
    assert len(waits) >= 3
    assert waits == sorted(waits)
    assert waits[2] > 1.5 * waits[1] > PROBE_S


def test_steady_loss_does_not_keep_the_rendition_down_forever() -> None:
    viewer = Viewer()
    viewer.hear(lossy(0.05), 5)
    viewer.hear(lossy(0.5))
    assert viewer.hear(lossy(0.05), 40)[-1] == 0
