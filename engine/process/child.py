"""One engine process: the subprocess, the socket to it and the frame ring. Also decides when its silence means a hang.

The supervising task (`engine.process.supervisor`) owns it, on the server's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys

from engine.config import EngineSettings
from engine.process import wire
from engine.process.environment import environment
from engine.process.own_clock import LOOK_EVERY_S, Silence, threads_of

logger = logging.getLogger(__name__)

# A killed process ends at once, unless it is stuck in the kernel. We do not wait longer for that.
_END_TIMEOUT_S = 5.0
# A process whose socket has closed ends at once, too. Its status is for a person only.
_STATUS_TIMEOUT_S = 1.0
# What a person may do about it.
_ADVICE = {
    signal.SIGBUS: "; perhaps the memory of its frames was taken away: give the container more, with --shm-size",
    signal.SIGKILL: "; perhaps the system ran out of memory",
}


class Lost(Exception):
    """The process can no longer be used; `reason` as in `EngineLost`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class LoadRefused(Exception):
    """The model cannot be loaded, and the next process could not load it either."""


class Child:
    """A subprocess, the socket to it and the frame ring that both map."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        ring: wire.FrameRing,
        *,
        is_bound: bool,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.ring = ring
        self._is_bound = is_bound  # the kernel kills the process when we die
        self._body_bytes: int | None = None  # of a message whose header has been read

    @property
    def pid(self) -> int:
        return self._process.pid

    def pause(self) -> None:
        """Stops the process, until `go_on` or `close`. Does nothing unless the kernel kills the process when we die: a
        stopped process does not notice that its socket closed."""
        if self._is_bound:
            self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        if self._is_bound:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    @classmethod
    async def spawn(cls, settings: EngineSettings) -> Child:
        ours, theirs = socket.socketpair()
        ring_fd = None
        try:
            ring_fd = wire.open_shared_file(settings.frames_bytes)
            nice = shutil.which("nice")
            prefix = (nice, "-n", str(settings.niceness)) if nice and settings.niceness else ()
            setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
            if setpriv:
                prefix = (setpriv, "--pdeathsig", "KILL", *prefix)
            process = await asyncio.create_subprocess_exec(
                *prefix,
                *settings.worker_command,
                *("--socket-fd", str(theirs.fileno())),
                *("--frames-fd", str(ring_fd)),
                *("--frames-bytes", str(settings.frames_bytes)),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), ring_fd),
                env=environment(os.environ),
            )
            ring = wire.FrameRing(ring_fd, settings.frames_bytes)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            if ring_fd is not None:
                os.close(ring_fd)
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer, ring, is_bound=setpriv is not None)

    def send(self, message: wire.ToEngine) -> None:
        """Never blocks; commands are small and bounded in number. A dead process loses what it has not read."""
        if not self._writer.is_closing():
            self._writer.write(wire.encode(message))

    async def receive(self, patience_s: float, blind_patience_s: float) -> wire.Message:
        """The next message. Raises `Lost` if the process has gone, or is silent for `patience_s` of its own time.

        If the system does not report the process's own time, the limit is `blind_patience_s` of elapsed time. Raises
        `ValueError` or `KeyError` for a message that cannot be decoded.
        """
        clock = asyncio.get_running_loop().time
        silence = Silence(patience_s, blind_patience_s, clock())
        while not silence.is_over_patience:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    return wire.decode(await self._read())
            except TimeoutError:
                silence.look(clock(), threads_of(self.pid))
            except (asyncio.IncompleteReadError, ConnectionError):
                raise Lost("exited", await self._how_it_ended()) from None
        told = f"no heartbeat for {silence.seconds:.1f} s, in {silence.own_s:.1f} of which it did not wait for a core"
        raise Lost("unresponsive", told)

    async def _how_it_ended(self) -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STATUS_TIMEOUT_S):
                await self._process.wait()
        status = self._process.returncode
        if status is None:
            return "the engine process closed its socket"
        if status >= 0:
            return f"the engine process ended with status {status}"
        number = signal.Signals(-status)
        return f"the engine process was ended by {number.name}{_ADVICE.get(number, '')}"

    async def _read(self) -> bytes:
        """The body of the next message. A cancelled read loses nothing of it."""
        if self._body_bytes is None:
            self._body_bytes = wire.body_length(await self._reader.readexactly(wire.HEADER_BYTES))
        body = await self._reader.readexactly(self._body_bytes)
        self._body_bytes = None
        return body

    async def close(self) -> None:
        """Kills the process, even a stopped one, and waits until it has ended."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        try:
            async with asyncio.timeout(_END_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            logger.warning("! engine process %d is stuck in the kernel; it ends when the kernel releases it", self.pid)
        self.ring.close()
