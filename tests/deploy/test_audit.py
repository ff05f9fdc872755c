"""The locks pin all that is installed, with hashes. Set-up installs from them. Other licences than allowed are told."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
LOCKS = ("requirements.lock", "audit.lock")
# In torch's metadata, but only its CUDA builds need them: see `exclude-dependencies` in pyproject.toml.
CUDA = re.compile("cuda-|nvidia-|triton")


def module_of(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DEPLOY / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    return module_of("audit")


def pins(name: str) -> dict[str, list[tuple[Requirement, int]]]:
    """By package: its pins (one for each range of Pythons) and how many hashes each has."""
    found: dict[str, list[tuple[Requirement, int]]] = {}
    for block in re.split(r"^(?=\S)", (DEPLOY / name).read_text(), flags=re.MULTILINE):
        if block.strip() and not block.startswith("#"):
            requirement = Requirement(block.partition("\\")[0].strip())
            found.setdefault(canonicalize_name(requirement.name), []).append(
                (requirement, block.count("--hash=sha256:"))
            )
    return found


def needed(name: str, extras: frozenset[str] = frozenset()) -> Iterator[Requirement]:
    """What an installed package needs here, and what that needs, and so on."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(name, extras)]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for text in metadata.requires(name) or ():
            requirement = Requirement(text)
            is_needed = any(
                requirement.marker is None or requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
            )
            if is_needed and not CUDA.match(requirement.name):
                yield requirement
                waiting.append((requirement.name, frozenset(requirement.extras)))


@pytest.mark.parametrize("name", LOCKS)
def test_each_pin_has_hashes(name: str) -> None:
    for of_package in pins(name).values():
        for requirement, num_hashes in of_package:
            assert num_hashes > 0 and [one.operator for one in requirement.specifier] == ["=="], requirement


def test_the_lock_pins_each_package_that_is_needed_directly_or_not() -> None:
    locked = pins("requirements.lock")
    found = list(needed("sceneshift", frozenset({"test"})))
    assert {"cryptography", "pyopenssl", "pylibsrtp"} <= {canonicalize_name(one.name) for one in found}
    for requirement in found:
        here = [
            pin.specifier
            for pin, _ in locked.get(canonicalize_name(requirement.name), [])
            if pin.marker is None or pin.marker.evaluate()
        ]
        assert len(here) == 1, f"run `make lock`: {requirement} has {len(here)} pins"
        (version,) = (one.version for one in here[0])
        assert requirement.specifier.contains(version, prereleases=True), (
            f"run `make lock`: {requirement}, not {version}"
        )


def test_on_linux_all_but_torch_comes_with_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up = module_of("set_up")
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(set_up, "VENV", tmp_path)
    monkeypatch.setattr(set_up, "pip", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(set_up, "torch_index", lambda: ["--index-url", "cpu"])
    monkeypatch.setattr(set_up.platform, "system", lambda: "Linux")
    set_up.install_locked()
    hashed, torch = calls
    assert {"--no-deps", "--require-hashes"} < set(hashed)
    (pin, _) = pins("requirements.lock")["torch"][0]
    assert torch == ("--index-url", "cpu", f"torch{pin.specifier}")
    lock = (DEPLOY / "requirements.lock").read_text()
    without_torch = Path(hashed[-1]).read_text()
    assert "\ntorch==" in lock and "\ntorch==" not in without_torch
    assert without_torch.count("==") == lock.count("==") - 1


def component(name: str, *licences: str) -> dict[str, Any]:
    return {"name": name, "version": "1", "licenses": [{"license": {"name": one}} for one in licences]}


@pytest.mark.parametrize(
    ("licences", "is_allowed"),
    [
        (["MIT"], True),
        (["BSD-3-Clause AND Zlib"], True),
        (["GPL-3.0-only OR Apache-2.0"], True),
        (["License :: OSI Approved :: Apache Software License"], True),
        (["AGPL-3.0-or-later"], False),
        (["MIT AND GPL-2.0-only"], False),
        (["MIT", "LicenseRef-Proprietary"], False),
        ([], False),
    ],
)
def test_a_licence_that_is_not_allowed_is_told(
    audit: ModuleType, licences: list[str], is_allowed: bool, tmp_path: Path
) -> None:
    faults = list(audit.check_licences([component("some", *licences), component("good", "MIT")], tmp_path / "table.md"))
    assert ([fault.partition(":")[0] for fault in faults] == []) is is_allowed
    assert "| good | 1 | MIT |" in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize(
    ("answers", "faults", "said"),
    [
        ([None], [], "no source of known holes"),
        ([[{"name": "aiohttp", "skip_reason": "?"}]], [], "no source of known holes"),
        ([[{"name": "aiohttp"}], [{"name": "a"}, {"name": "b", "skip_reason": "?"}]], [], "not known to its source: b"),
        (
            [[{"name": "aiohttp"}], [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}]],
            ["a 1: CVE-1, mended in 2"],
            "",
        ),
        ([[{"name": "aiohttp"}], None], ["pip-audit could not read the lock"], ""),
    ],
    ids=["unreachable", "knows nothing", "does not know one", "a hole", "an unreadable lock"],
)
def test_known_holes_are_faults_and_an_unreachable_source_is_only_told(
    audit: ModuleType,
    answers: list[Any],
    faults: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(audit, "REPORT", tmp_path)
    monkeypatch.setattr(audit, "_audited", lambda requirements: answers.pop(0))
    assert audit.known_holes() == faults
    assert said in capsys.readouterr().out and answers == []
