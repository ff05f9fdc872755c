"""A real `sceneshift serve` in a process of its own, on a free port, for measurements and browser tests.

Asyncio; the caller that opens it closes it. The server's log goes to a file, because an unread pipe would block the
server one day.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SOURCE = Path(__file__).resolve().parent.parent.parent
OPEN_TIMEOUT_S = 60.0
READY_TIMEOUT_S = 180.0
CLOSE_TIMEOUT_S = 15.0
# Flags of a server that has a token.
_WITH_TOKEN = {"--token", "--host", "--public-address", "--allowed-origins", "--config"}
_ADDRESS = re.compile(r"https?://\S+")


class ServeError(Exception):
    """The server did not come up; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Served:
    """A running server: its address, its process id, and its log."""

    url: str  # http://host:port, without a slash at the end
    pid: int
    log: BinaryIO

    @property
    def num_log_bytes(self) -> int:
        """What it has written to its standard error."""
        return os.fstat(self.log.fileno()).st_size


@asynccontextmanager
async def served(
    arguments: Sequence[str] = (), *, is_ready: bool = True, source: Path = SOURCE
) -> AsyncIterator[Served]:
    """Serves on a free port while the block runs; waits for the engine if `is_ready`. Raises `ServeError`.

    The server asks nobody for a token, unless `arguments` say how others reach it. `source`: the checkout whose server
    runs.
    """
    command = [sys.executable, "-m", "server", "serve", "--host", "127.0.0.1", "--port", "0", *arguments]
    with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory() as data_home:
        own = environment(data_home)
        if not _WITH_TOKEN & set(arguments):
            own["SCENESHIFT_NO_TOKEN"] = "true"  # not a flag, because older checkouts do not know it
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=log, cwd=source, env=own
        )
        try:
            try:
                url = await _address(process, is_ready)
            except TimeoutError:
                raise ServeError("the server did not come up in time") from None
            except EOFError:
                log.seek(0)
                tail = log.read().decode(errors="replace")[-2000:]
                raise ServeError(f"the server ended at once:\n{tail}") from None
            yield Served(url, process.pid, log)
        finally:
            await _stop(process)


def environment(data_home: str) -> dict[str, str]:
    """Ours without our settings: the caller's token or port must not leak into a measurement, nor that into the
    caller's store."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SCENESHIFT_")}
    return ours | {"XDG_DATA_HOME": data_home, "XDG_RUNTIME_DIR": data_home}


async def _address(process: asyncio.subprocess.Process, is_ready: bool) -> str:
    """The address that the server prints. If `is_ready`, waits for the line that says that the engine is warm."""
    async with asyncio.timeout(OPEN_TIMEOUT_S):
        while (found := _ADDRESS.search(line := await _line(process))) is None:
            pass
    url = found.group().split("#")[0].rstrip("/")
    async with asyncio.timeout(READY_TIMEOUT_S):
        while is_ready and not line.startswith("ready:"):
            line = await _line(process)
    return url


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise EOFError
    return line.decode()


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
