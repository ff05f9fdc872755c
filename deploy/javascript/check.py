"""Checks the pages' scripts: types (tsc), lint and format (Biome), and that the SDK's declarations are fresh.

`python deploy/javascript/check.py [--write]`; `make lint` runs it after `npm install` in this folder. `--write` formats
the scripts and writes `client_web/sdk/types/` from them. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SDK = ROOT / "client_web" / "sdk"
DECLARATIONS = SDK / "types"
CHECKED = ("client_web", "bench", "examples")
# What a page imports, and what of it a user meets; the other modules are the SDK's own business.
PUBLIC = ("emitter", "errors", "handle", "player", "sceneshift", "session", "watch")


def run(tool: str, *arguments: str) -> bool:
    """Whether the tool of `node_modules` is content; what it finds is printed."""
    command = [HERE / "node_modules" / ".bin" / tool, *arguments]
    done = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        print(done.stdout, file=sys.stderr)
    return done.returncode == 0


def declarations() -> dict[str, str]:
    """The SDK's declaration files by name, made by tsc from its scripts."""
    with tempfile.TemporaryDirectory() as folder:
        run("tsc", "--project", str(HERE / "tsconfig.declarations.json"), "--outDir", folder)
        made = {f"{name}.d.ts": (Path(folder) / f"{name}.d.ts").read_text(encoding="utf-8") for name in PUBLIC}
    return made | {"types.d.ts": (SDK / "types.d.ts").read_text(encoding="utf-8")}


def written() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(DECLARATIONS.glob("*.d.ts"))}


def main() -> int:
    parser = argparse.ArgumentParser(description="Checks the pages' scripts.")
    parser.add_argument("--write", action="store_true", help="format the scripts and write the SDK's declarations")
    arguments = parser.parse_args()
    if not (HERE / "node_modules").is_dir():
        print("npm is not installed: the pages' scripts are not checked", file=sys.stderr)
        return 1 if os.environ.get("CI") == "true" else 0
    if arguments.write:
        run("biome", "format", "--write", "--config-path", str(HERE), *CHECKED)
        shutil.rmtree(DECLARATIONS, ignore_errors=True)
        DECLARATIONS.mkdir()
        for name, text in declarations().items():
            (DECLARATIONS / name).write_text(text, encoding="utf-8")
    config = ("--config-path", str(HERE))
    is_good = run("tsc", "--project", str(HERE))
    is_good &= run("biome", "lint", "--error-on-warnings", *config, *CHECKED)
    is_good &= run("biome", "format", *config, *CHECKED)
    if declarations() != written():
        print("client_web/sdk/types is not what the scripts say: run `make clients`", file=sys.stderr)
        is_good = False
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
