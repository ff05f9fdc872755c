"""Rules for every test: one thread for arithmetic, the order, and which tests `make check` leaves to `make test`.

Runs in each of pytest's worker processes, before any module of tests is imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.without_models.sitecustomize import leave_out

# A worker has about one core; threads that spin for their next work take it from the other workers. torch reads both
# when it is imported, which is later. Engines that tests start set a number of threads of their own.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

HERE = Path(__file__).parent
# Programs of others, in environments of their own that take minutes to install.
FOREIGN = (HERE / "clients", HERE / "suites")
FOREIGN_TIMEOUT_S = 1800
LEFT_OUT = ("browser", "model", "foreign")  # by --check
NUM_LEFT: pytest.StashKey[int] = pytest.StashKey()  # tests that --check left out


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--check", action="store_true", help="only what needs neither a browser nor a model nor programs of others"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[NUM_LEFT] = 0
    if config.getoption("check"):
        # A test module that imports a model or a browser here is left out as a whole. A process that a test starts
        # cannot import them either, and fails: give that test the mark `model`.
        leave_out(partial(pytest.skip.Exception, allow_module_level=True))
        path = [str(HERE / "without_models"), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and isinstance(collector, pytest.Module):  # counts functions: their parameters are unknown
        functions = re.findall(r"^(?:async )?def test_", collector.path.read_text(encoding="utf-8"), re.MULTILINE)
        collector.config.stash[NUM_LEFT] += len(functions)
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if HERE / "browser" in item.path.parents or "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
        if any(folder in item.path.parents for folder in FOREIGN):
            item.add_marker("foreign")
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(FOREIGN_TIMEOUT_S))
    if config.getoption("check"):
        left = [item for item in items if any(map(item.get_closest_marker, LEFT_OUT))]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if not any(map(item.get_closest_marker, LEFT_OUT))]
        config.stash[NUM_LEFT] += len(left)
    # The server's many short files come last: a long one there would keep one worker busy and leave the others idle.
    items.sort(key=lambda item: HERE / "server" in item.path.parents)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["num_left"] = session.config.stash[NUM_LEFT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Each of xdist's workers collects the same tests."""
    node.config.stash[NUM_LEFT] = getattr(node, "workeroutput", {}).get("num_left", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if num_left := config.stash[NUM_LEFT]:
        terminalreporter.write_line(
            f"{num_left} tests were left to `make test`: they need a browser, a model or programs of others"
        )
