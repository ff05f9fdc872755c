"""The simulator counts alike for all policies, is repeatable, and shows the arbiter's gain."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.sim import traces
from bench.sim.arbiter_sim import CostTable, Simulation, goals, jain, main, measures
from bench.sim.plot import plot
from bench.sim.policies import EarliestDeadline, FirstComeFirstServed
from engine.arbiter.arbiter import Arbiter
from engine.arbiter.work import Policy

TABLES = sorted((Path(__file__).parents[3] / "bench" / "sim" / "costs").glob("*.json"))
EMBEDDED = CostTable.read(next(path for path in TABLES if path.stem.startswith("embedded")))


def result(policy: type[Policy], trace: traces.Trace) -> dict[str, float]:
    return measures(Simulation(policy(EMBEDDED.cost()), trace, EMBEDDED.cost(), seed=3).run())


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_each_table_can_be_read_and_says_where_it_is_from(path: Path) -> None:
    table = CostTable.read(path)
    assert table.source
    assert table.cost().is_measured


def test_every_policy_gets_the_same_prompts_and_the_goals_hold() -> None:
    # With ten tenants and 200 clips, Jain's index is 0.95 to 0.98 by chance alone; with 800 clips it is 0.99.
    trace = traces.flood(EMBEDDED.cost(), 3, 1.5, num_clips=400)
    rows = {policy.__name__: result(policy, trace) for policy in (FirstComeFirstServed, EarliestDeadline, Arbiter)}
    assert len({row["counted"] for row in rows.values()}) == 1
    told = goals(
        {"flood": {"ours": rows["Arbiter"], "fcfs": rows["FirstComeFirstServed"], "edf": rows["EarliestDeadline"]}}
    )
    assert len(told) >= 4
    assert all(line.startswith("met") for line in told), told


def test_a_loss_of_the_engine_loses_no_prompt() -> None:
    trace = traces.lossy(EMBEDDED.cost(), 3, 1.0, num_clips=40)
    run = Simulation(Arbiter(EMBEDDED.cost()), trace, EMBEDDED.cost(), seed=3).run()
    assert all(outcome.num_ends == 1 for outcome in run.outcomes)


def test_a_scene_that_goes_on_stalls_when_the_engine_is_too_slow_and_only_then() -> None:
    for load, is_smooth in ((0.5, True), (2.5, False)):
        trace = traces.streams(EMBEDDED.cost(), 3, load, clip_length_s=EMBEDDED.clip_length_s, num_clips=60)
        row = result(FirstComeFirstServed, trace)
        assert (row["play_ratio"] == 1.0) is is_smooth


def test_jains_index() -> None:
    assert jain([0.5, 0.5]) == pytest.approx(1.0)
    assert jain([1.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)


def test_the_plot_names_every_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = tmp_path / "figure.svg"
    assert main(["--clips", "10", "--seed", "3", "--plot", str(figure)]) == 0
    assert "preview p50" in capsys.readouterr().out
    titles = [element.text or "" for element in ElementTree.parse(figure).iter() if element.tag.endswith("title")]
    assert sum(title.startswith("steady, ours:") for title in titles) == 2
    assert any(title.startswith("streams, fcfs:") for title in titles)


def test_a_plot_of_zero_times_is_no_error() -> None:
    row = {key: 0.0 for key in ("preview_p95_s", "on_time_share")}
    policies = {name: row for name in ("fcfs", "round robin", "edf", "ours, no ladder", "ours")}
    assert plot({"steady": policies}, title="<nothing>").startswith("<svg")
