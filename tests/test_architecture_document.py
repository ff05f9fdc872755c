"""docs/architecture.md names only files that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NOT_THERE = {"engine/guard.py", "tests/engine/test_guard.py"}  # examples of files to add


def test_every_file_that_the_map_names_exists() -> None:
    files = {path for path in re.findall(r"`([\w./-]+/[\w.-]+\.\w+)`", DOCUMENT) if "NAME" not in path}
    missing = {path for path in files - NOT_THERE if not (ROOT / path).exists() and not list(ROOT.glob(f"*/*/{path}"))}
    assert files and not missing
