"""Files copied from other packages are as published, and are shipped in our package."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "deploy" / "vendor_selfie_segmentation.py"


@pytest.fixture(scope="module")
def vendor() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vendor_selfie_segmentation", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


def test_the_files_that_cut_a_person_out_are_as_published(vendor: ModuleType) -> None:
    vendor.check_files()


def test_a_changed_file_is_noticed(vendor: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in vendor.FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tflite-simd-1-0-0.js").write_text("other()")
    monkeypatch.setattr(vendor, "FOLDER", tmp_path)
    with pytest.raises(vendor.NotAsPublished, match=r"tflite-simd-1-0-0\.js: expected SHA-256 1675c54d"):
        vendor.check_files()


def test_every_file_of_the_pages_is_in_the_package() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    pages = ROOT / "client_web"
    files = [path for path in pages.rglob("*") if path.is_file() and pages / "python" not in path.parents]
    assert len(files) > 20
    left_out = [path for path in files if not any(fnmatch(path.name, pattern) for pattern in patterns)]
    assert [str(path.relative_to(ROOT)) for path in left_out if path.suffix not in (".py", ".pyc")] == []
