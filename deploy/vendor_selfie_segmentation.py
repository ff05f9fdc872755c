"""Fetches the files with which the studio page cuts a person out, into `client_web/vendor/selfie_segmentation/`.

The files are committed, because `make serve` has no npm. This fetches them again, or checks that they are as published:
`python deploy/vendor_selfie_segmentation.py [--check]`. Standard library and `npm pack` only. Every tarball and every
file is compared with its checksum, so that nothing else can slip in.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "client_web" / "vendor" / "selfie_segmentation"


@dataclass(frozen=True, slots=True)
class Tarball:
    package: str
    version: str
    sha256: str
    files: dict[str, tuple[str, str]]  # path in the tarball: name here, SHA-256


TARBALLS = (
    Tarball(
        "@mediapipe/selfie_segmentation",
        "0.1.1675465747",
        "7767b33eaa68990ee06c28bbb89f39a13a47ebb07ff0f1fd4947d9e817bb9bf9",
        {
            "package/selfie_segmentation_landscape.tflite": (
                "selfie_segmentation_landscape.tflite",
                "4aafe6223bb8dac6fac8ca8ed56852870a33051ef3f6238822d282a109962894",
            ),
        },
    ),
    Tarball(
        "@twilio/video-processors",
        "3.2.0",
        "608e30d789b2a8c29458350a68aaeeb2009cb3f4679aa1a45514d9e367d28bb9",
        {
            "package/dist/build/tflite-simd-1-0-0.js": (
                "tflite-simd-1-0-0.js",
                "1675c54d0c35235cd45cb658a75e188153dec998add93f6183ab957da4af1362",
            ),
            "package/dist/build/tflite-simd-1-0-0.wasm": (
                "tflite-simd-1-0-0.wasm",
                "28813f8fdd8ca46e405b4473dcaf8e783f8028b845e30fdc9eee815118a76953",
            ),
            "package/LICENSE.md": (
                "LICENSE-twilio.md",
                "b727237a5eb81510bc8df2a34026693fb3bec53c20855246f0951dda1ed46ddd",
            ),
        },
    ),
)


class NotAsPublished(Exception):
    """A checksum differs, or a file is missing; the message says which."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing: only compare what is here")
    options = parser.parse_args()
    try:
        if options.check:
            check_files()
        else:
            _fetch_all()
    except (NotAsPublished, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{FOLDER.name}: {sum(path.stat().st_size for path in FOLDER.iterdir()):,} bytes, as published")
    return 0


def check_files() -> None:
    """Compares the committed files with their checksums. Raises `NotAsPublished`."""
    for tarball in TARBALLS:
        for name, sha256 in tarball.files.values():
            _check(FOLDER / name, sha256)


def _fetch_all() -> None:
    if shutil.which("npm") is None:
        raise NotAsPublished("npm is needed to fetch the packages")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for tarball in TARBALLS:
        with tempfile.TemporaryDirectory() as folder:
            _fetch(tarball, Path(folder))


def _fetch(tarball: Tarball, folder: Path) -> None:
    command = ["npm", "pack", "--silent", f"{tarball.package}@{tarball.version}"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (packed,) = folder.glob("*.tgz")
    _check(packed, tarball.sha256)
    with tarfile.open(packed) as archive:
        for path, (name, sha256) in tarball.files.items():
            member = archive.extractfile(path)
            if member is None:
                raise NotAsPublished(f"{tarball.package} {tarball.version} has no {path}")
            (FOLDER / name).write_bytes(member.read())
            _check(FOLDER / name, sha256)


def _check(path: Path, sha256: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no such file"
    if found != sha256:
        raise NotAsPublished(f"{path.name}: expected SHA-256 {sha256}, found {found}")


if __name__ == "__main__":
    sys.exit(main())
