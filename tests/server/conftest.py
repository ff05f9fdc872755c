"""Fixtures for tests of the server. Puts this folder on the path, so that tests can import `fakes`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fakes import SessionHarness

from server.protocol.messages import SessionOptions


@pytest.fixture
def make_harness() -> Callable[..., SessionHarness]:
    def make(**options: Any) -> SessionHarness:
        return SessionHarness(SessionOptions(**options))

    return make


@pytest.fixture
def harness(make_harness: Callable[..., SessionHarness]) -> SessionHarness:
    return make_harness()
