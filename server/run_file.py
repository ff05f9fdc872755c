"""The file that a running server leaves for its own user: its address, its token and its process.

Our command line and both SDKs read it, so nobody has to copy a token on the machine that serves. It stands in
`$XDG_RUNTIME_DIR/sceneshift/PORT.json`, else in `run/PORT.json` of the data folder, and only its owner may read it. The
SDKs' twins are `client_web/python/sceneshift/run_file.py` and `client_web/sdk/run_file.js`.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from server.config import default_data_folder


class RunFileError(Exception):
    """The folder or the file cannot be written. The message is for the operator."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server on this machine. `link` is its address with the token, as its console needs it."""

    port: int
    url: str  # with a slash at its end
    token: str | None = field(repr=False)
    pid: int

    @property
    def link(self) -> str:
        return self.url if self.token is None else f"{self.url}#token={self.token}"


def folder_of(environment: Mapping[str, str], data_folder: Path) -> Path:
    runtime = environment.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "sceneshift" if runtime else data_folder / "run"


@contextlib.contextmanager
def kept(folder: Path, running: Running) -> Iterator[Path]:
    """The file is there while the block runs. It replaces one of a server that has died. Raises `RunFileError`."""
    path = folder / f"{running.port}.json"
    try:
        _make_private(folder)
        _write(path, {"url": running.url, "token": running.token, "pid": running.pid})
    except OSError as error:
        raise RunFileError(f"{path} cannot be written: {error.strerror}") from None
    try:
        yield path
    finally:
        # Another server on another loopback address may have the same port, and have written after us.
        if (found := _read(path)) is not None and found.pid == running.pid:
            with contextlib.suppress(OSError):
                path.unlink()


def all_running(environment: Mapping[str, str]) -> list[Running]:
    """The servers of this user that run now, by port."""
    data_folder = Path(environment.get("SCENESHIFT_DATA_FOLDER") or default_data_folder(environment))
    folders = {folder_of(environment, data_folder), data_folder / "run"}
    found = (_read(path) for folder in folders for path in folder.glob("*.json"))
    return sorted((one for one in found if one is not None and _is_alive(one.pid)), key=lambda one: one.port)


def _make_private(folder: Path) -> None:
    """Raises `OSError`, also for a folder that another user owns."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
        raise PermissionError(0, "its folder belongs to another user, or is a link")
    folder.chmod(0o700)


def _write(path: Path, content: Mapping[str, object]) -> None:
    """At once and whole, so that nobody reads half of it."""
    new = path.with_suffix(f".{os.getpid()}")
    new.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            json.dump(content, file)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _read(path: Path) -> Running | None:
    """None for what no server of ours has written."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        url, token, pid = content["url"], content["token"], content["pid"]
        port = int(path.stem)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    is_good = isinstance(url, str) and isinstance(token, str | None) and isinstance(pid, int) and pid > 0
    return Running(port, url, token, pid) if is_good else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
