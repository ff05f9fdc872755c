"""A pytest plugin for `run.py`: most mutants are killed by a quick test, so the slow ones come last."""

import json
from pathlib import Path

import pytest

_STATISTICS = Path("mutmut-stats.json")  # in the folder from which mutmut runs pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if _STATISTICS.exists():
        duration_s = json.loads(_STATISTICS.read_text())["duration_by_test"]
        items.sort(key=lambda item: duration_s.get(item.nodeid, 0.0))
