"""What we install, looked at by programs of others: their tools, the lock, a bill of materials, licences, known holes.

    python deploy/audit.py          # `make audit`: writes runs/audit/{sbom.cdx.json,licences.md}, asks for known holes
    python deploy/audit.py lock     # `make lock`: writes both locks again, with new pins where `--upgrade` is given

The tools have an environment of their own in the user's cache, so that none of their dependencies comes near ours. It
is made from `audit.lock`, with hashes, and anew when that changes. Standard library only. Ends with status 1 for a
licence that is not allowed and for a known hole. Where the source of known holes cannot be reached, one line says so.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "deploy" / "requirements.lock"
TOOLS_LOCK = ROOT / "deploy" / "audit.lock"
REPORT = ROOT / "runs" / "audit"
PYTHON = ROOT / ".venv" / "bin" / "python"

# Each lets us use, change and ship the code in an Apache-2.0 product. MPL and LGPL ask something of changes to
# their own files only.
ALLOWED = frozenset(
    {
        *("0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0"),
        *(
            "CNRI-Python",
            "ISC",
            "LGPL-2.1-or-later",
            "MIT",
            "MIT-0",
            "MIT-CMU",
            "MPL-2.0",
            "PSF-2.0",
            "Python-2.0",
            "Zlib",
        ),
    }
)
# What packages write in other words.
_IN_SPDX = {
    "Apache 2.0 License": "Apache-2.0",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
# Says nothing about a licence of its own.
_NO_LICENCE = {"License :: DFSG approved"}
# Packages whose metadata does not tell it, or not all of it, and why we take them.
NAMED = {
    "av": "BSD-3-Clause; its wheels bring FFmpeg with x264 and x265 (GPL), see docs/decisions/dependencies.md",
    "transformers": "Apache-2.0 by its LICENSE file",
}


class Unusable(Exception):
    """The tools cannot be installed: no package index can be reached."""


def tools() -> Path:
    """The folder with the tools' programs; installs them first if they are missing. Raises `Unusable`."""
    digest = hashlib.sha256(TOOLS_LOCK.read_bytes() + sys.version.encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sceneshift" / f"audit-{digest}"
    cache.mkdir(parents=True, exist_ok=True)
    bin_folder, is_ready = cache / "bin", cache / "ready"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not is_ready.exists():
            venv.create(cache, with_pip=True, symlinks=True)
            command = [str(bin_folder / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
            done = subprocess.run(
                [*command, "-r", str(TOOLS_LOCK)], capture_output=True, text=True, timeout=300, check=False
            )
            if done.returncode != 0:
                raise Unusable(done.stderr.strip().splitlines()[-1][:300])
            is_ready.touch()
    return bin_folder


def lock(*options: str) -> None:
    for arguments, name in ((["pyproject.toml", "--extra", "test"], LOCK), (["--group", "audit"], TOOLS_LOCK)):
        command = [str(tools() / "uv"), "pip", "compile", "--quiet", *arguments, "-o", str(name.relative_to(ROOT))]
        subprocess.run([*command, *options], cwd=ROOT, check=True)


def main() -> int:
    REPORT.mkdir(parents=True, exist_ok=True)
    sbom = REPORT / "sbom.cdx.json"
    options = ["--output-format", "JSON", "--output-reproducible", "-o", str(sbom)]
    subprocess.run([str(tools() / "cyclonedx-py"), "environment", *options, str(PYTHON)], check=True)
    components = json.loads(sbom.read_text())["components"]
    faults = list(check_licences(components, REPORT / "licences.md"))
    faults += known_holes()
    for fault in faults:
        print(f"! {fault}")
    print(f"{len(components)} packages; the bill of materials and the licences are in {REPORT.relative_to(ROOT)}")
    return 1 if faults else 0


def check_licences(components: list[dict[str, object]], table: Path) -> Iterator[str]:
    """Writes the table. Gives a line for each package whose licence is not allowed."""
    rows = ["| package | version | licence |", "|---|---|---|"]
    for component in components:
        name, licences = str(component["name"]), list(licences_of(component))
        named = NAMED.get(name)
        rows.append(f"| {name} | {component['version']} | {named or ' AND '.join(licences)} |")
        if named is None and (not licences or not set(licences) <= ALLOWED):
            yield f"{name}: {' AND '.join(licences) or 'no licence in its metadata'} is not in deploy/audit.py"
    table.write_text("\n".join(rows) + "\n")


def licences_of(component: dict[str, object]) -> Iterator[str]:
    """In SPDX's words. Of a choice (OR), the first that is allowed."""
    for entry in component.get("licenses", ()):  # type: ignore[attr-defined]
        text = entry.get("expression") or entry["license"].get("id") or entry["license"].get("name")
        for part in re.split(r" AND ", _IN_SPDX.get(text, text).replace("(", "").replace(")", "")):
            choices = part.split(" OR ")
            choice = next((one for one in choices if one in ALLOWED), choices[0])
            if choice not in _NO_LICENCE:
                yield choice


def known_holes() -> list[str]:
    """Of the pins of the lock. One pin is tried first, so that a source that knows nothing is asked once."""
    probe = REPORT / "probe.txt"
    probe.write_text(next(line.split()[0] for line in LOCK.read_text().splitlines() if line.startswith("aiohttp==")))
    found = _audited(probe)
    if found is None or all("skip_reason" in one for one in found):
        print("pip-audit: no source of known holes can be reached from here, so none was asked")
        return []
    found = _audited(LOCK)
    if found is None:
        return ["pip-audit could not read the lock"]
    if skipped := [one["name"] for one in found if "skip_reason" in one]:
        print(f"pip-audit: not known to its source: {', '.join(skipped)}")
    return [
        f"{one['name']} {one['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'no version'}"
        for one in found
        for hole in one.get("vulns", ())
    ]


def _audited(requirements: Path) -> list[dict[str, object]] | None:
    """pip-audit's answer for each pin; None without one."""
    options = ["--disable-pip", "--no-deps", "--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    command = [str(tools() / "pip-audit"), *options, "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    try:
        return json.loads(done.stdout)["dependencies"]
    except ValueError:
        return None


if __name__ == "__main__":
    try:
        sys.exit(lock(*sys.argv[2:]) if sys.argv[1:2] == ["lock"] else main())
    except Unusable as unusable:
        print(f"the tools cannot be installed here ({unusable})", file=sys.stderr)
        sys.exit(1)
