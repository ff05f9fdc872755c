"""Makes `.venv` and installs Sceneshift into it. Standard library only; called by the Makefile, safe to call again.

Everything comes from `requirements.lock`: pinned, and checked against the hashes there. One part is not checked: on
Linux, torch's build on PyPI is the CUDA one and pulls gigabytes. So torch, at the pin of the lock, comes from PyTorch's
own index of CPU builds where that can be reached, else from wherever pip is set up to look. With CUDA=1 pip resolves
what pyproject.toml asks for, unpinned.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import urllib.error
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".sceneshift-set-up"
LOCK = ROOT / "deploy" / "requirements.lock"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_SOURCES = (ROOT / "pyproject.toml", LOCK, Path(__file__))


def main() -> int:
    if sys.version_info < (3, 11):
        print(f"Sceneshift needs Python 3.11 or newer; this is {platform.python_version()}.", file=sys.stderr)
        return 1
    wants_cuda = os.environ.get("CUDA", "") not in ("", "0")
    state = f"{'cuda' if wants_cuda else 'cpu'} {max(source.stat().st_mtime_ns for source in _SOURCES)}"
    if STAMP.is_file() and STAMP.read_text() == state:
        return 0
    if not PYTHON.exists():
        print("Making .venv ...", flush=True)
        try:
            venv.create(VENV, with_pip=True, symlinks=True)
        except subprocess.CalledProcessError:
            print("venv failed; on Debian and Ubuntu install it first: sudo apt install python3-venv", file=sys.stderr)
            return 1
    print("Installing Sceneshift into .venv (the first time takes some minutes) ...", flush=True)
    if wants_cuda:
        pip("-e", f"{ROOT}[test]")
    else:
        install_locked()
        pip("--no-deps", "--no-build-isolation", "-e", str(ROOT))
    STAMP.write_text(state)
    return 0


def install_locked() -> None:
    if platform.system() != "Linux":
        pip("--no-deps", "--require-hashes", "-r", str(LOCK))
        return
    blocks = re.split(r"^(?=\S)", LOCK.read_text(), flags=re.MULTILINE)  # a requirement, then its hashes, indented
    (torch,) = (block for block in blocks if block.startswith("torch=="))
    without_torch = VENV / LOCK.name
    without_torch.write_text("".join(block for block in blocks if block is not torch))
    pip("--no-deps", "--require-hashes", "-r", str(without_torch))
    pip(*torch_index(), torch.split()[0])  # its dependencies are there now


def torch_index() -> list[str]:
    """Where pip finds a CPU build: needed on Linux only, elsewhere the default build is one."""
    if platform.system() != "Linux":
        return []
    try:
        with urllib.request.urlopen(f"{TORCH_CPU_INDEX}/torch/", timeout=5):
            return ["--index-url", TORCH_CPU_INDEX]
    except (urllib.error.URLError, OSError):
        return []


def pip(*arguments: str) -> None:
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        print(f"set-up stopped: {' '.join(error.cmd[:6])} ... gave {error.returncode}", file=sys.stderr)
        sys.exit(1)
