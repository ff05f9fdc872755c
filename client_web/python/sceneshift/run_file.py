"""Finds the token of a server of this user on this machine, in the file that `sceneshift serve` keeps while it runs.

`session.connect` asks when it was given no token for a loopback address. Reads a small file, so it may block for as
long as a disk takes. The server's twin, which writes the file, is `server/run_file.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


def token_at(port: int, environment: Mapping[str, str]) -> str | None:
    """The token of the server at this port; None if none of this user runs there, or if it needs no token."""
    if os.name != "posix":
        return None  # no server runs there, and `os.kill` would end a process
    for folder in _folders(environment):
        try:
            content = json.loads((folder / f"{port}.json").read_text(encoding="utf-8"))
            token, pid = content["token"], content["pid"]
            if not isinstance(pid, int) or pid <= 0:
                continue
            os.kill(pid, 0)  # a server that died left its file behind
        except PermissionError:
            continue  # another user's
        except (OSError, ValueError, TypeError, KeyError, OverflowError):
            continue
        if isinstance(token, str):
            return token
    return None


def _folders(environment: Mapping[str, str]) -> list[Path]:
    home = Path(environment.get("HOME") or Path.home())
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share") / "sceneshift"
    runtime = environment.get("XDG_RUNTIME_DIR")
    own = Path(environment.get("SCENESHIFT_DATA_FOLDER") or data) / "run"
    return [Path(runtime) / "sceneshift", own] if runtime else [own]
