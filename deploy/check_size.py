"""Refuses files over 1 MB that git would commit: history keeps them forever. `make lint` and pre-commit run it.

`python deploy/check_size.py`. Standard library and git only.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_BYTES = 1_000_000
# Weights are larger. They are committed only when they ship.
WEIGHTS = "engine/embedded/weights/"
EXCEPTIONS = {
    "client_web/vendor/selfie_segmentation/tflite-simd-1-0-0.wasm": (
        "TensorFlow Lite as its authors published it; the browser segments the webcam with it, and uses no CDN"
    ),
}


class NoRepository(Exception):
    """The folder is no git checkout, or git is missing."""


def too_large(root: Path) -> list[tuple[str, int]]:
    """Path and bytes of each file in the index that is too large. Raises `NoRepository`."""
    staged = [entry.split("\t", 1) for entry in _git(root, "ls-files", "--stage", "-z").split("\0") if entry]
    blobs = [stage.split()[1] for stage, _ in staged]
    sizes = _git(root, "cat-file", "--batch-check=%(objectsize)", given="\n".join(blobs)).split()
    return [
        (path, num_bytes)
        for (_, path), num_bytes in zip(staged, map(int, sizes), strict=True)
        if num_bytes > MAX_BYTES and not path.startswith(WEIGHTS) and path not in EXCEPTIONS
    ]


def _git(root: Path, *arguments: str, given: str = "") -> str:
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, input=given, capture_output=True, encoding="utf-8", check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise NoRepository(getattr(error, "stderr", None) or str(error)) from error


def main() -> int:
    try:
        found = too_large(ROOT)
    except NoRepository as error:
        print(f"The sizes of files were not checked: {str(error).strip()}")
        return 0
    for path, num_bytes in found:
        print(
            f"{path} has {num_bytes:,} bytes; a file may have {MAX_BYTES:,}. "
            "Compress it, make it when it is needed, or name it with its reason in deploy/check_size.py.",
            file=sys.stderr,
        )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
