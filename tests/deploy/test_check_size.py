"""Commits stay small: no file over 1 MB, except shipped weights and exceptions with a reason."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "deploy" / "check_size.py"


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_size", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def _stage(repository: Path, path: str, num_bytes: int) -> None:
    (repository / path).parent.mkdir(parents=True, exist_ok=True)
    (repository / path).write_bytes(bytes(num_bytes))
    subprocess.run(["git", "add", path], cwd=repository, check=True)


def test_a_large_file_is_refused_by_name_and_size(check: ModuleType, repository: Path) -> None:
    _stage(repository, "docs/fits.webp", 1_000_000)
    _stage(repository, "docs/日落 at sea.png", 1_000_001)
    assert check.too_large(repository) == [("docs/日落 at sea.png", 1_000_001)]


def test_only_files_that_git_would_commit_count(check: ModuleType, repository: Path) -> None:
    _stage(repository, "clip.mp4", 2_000_000)
    (repository / "clip.mp4").unlink()
    (repository / "untracked.mp4").write_bytes(bytes(2_000_000))
    assert check.too_large(repository) == [("clip.mp4", 2_000_000)]


def test_weights_that_ship_may_be_large(check: ModuleType, repository: Path) -> None:
    _stage(repository, f"{check.WEIGHTS}transformer/model.safetensors", 2_000_000)
    assert check.too_large(repository) == []


def test_a_folder_without_git_is_told_apart_from_one_that_passes(check: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(check.NoRepository):
        check.too_large(tmp_path)


def test_this_repository_is_light(check: ModuleType) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    assert check.too_large(ROOT) == []


def test_each_exception_is_still_needed(check: ModuleType) -> None:
    assert all((ROOT / path).stat().st_size > check.MAX_BYTES for path in check.EXCEPTIONS)


def test_pre_commit_fetches_nothing() -> None:
    config = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"repo: *(.+)", config) == ["local"]
    assert set(re.findall(r"language: *(.+)", config)) == {"system"}
    assert "deploy/check_size.py" in config
