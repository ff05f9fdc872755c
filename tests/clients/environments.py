"""Environments for clients that others wrote: a virtual environment or a node folder for each, in the user's cache.

None of their packages comes near ours. An environment is made once for its list of packages. A test that needs one is
skipped, with the reason, where the package index cannot be reached.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

INSTALL_LIMIT_S = 1200.0
PATIENCE_S = 300.0  # with a program of others


class Unusable(Exception):
    """The packages cannot be installed here; the message says why."""


def python(*packages: str) -> Path:
    """The folder of programs of an environment that has these packages. Blocks. Raises `Unusable`."""

    def install(folder: Path) -> list[str]:
        venv.create(folder, with_pip=True, symlinks=True)
        return [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages]

    return _made("python", (sys.version, *packages), install) / "bin"


def node(*packages: str) -> Path:
    """A folder with `node_modules`. Blocks. Raises `Unusable`."""
    if shutil.which("npm") is None:
        raise Unusable("npm is not installed")

    def install(folder: Path) -> list[str]:
        return ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *packages]

    return _made("node", packages, install)


def _made(kind: str, content: tuple[str, ...], install: Callable[[Path], list[str]]) -> Path:
    digest = hashlib.sha256("\n".join(content).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sceneshift"
    folder = cache / f"client-{kind}-{digest}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                command = install(folder)
                done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False)
            except (OSError, subprocess.SubprocessError) as error:
                raise Unusable(str(error)[:300]) from None
            if done.returncode != 0:
                raise Unusable((done.stderr.strip().splitlines() or ["no reason given"])[-1][:300])
            (folder / "ready").touch()
    return folder


async def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What the program prints. Fails with that if the program fails. Nothing of ours is on its path."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OPENAI", "SCENESHIFT"))}
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=own | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, out.decode()[-3000:]
    return out.decode()
