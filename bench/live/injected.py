"""`sceneshift bench faults --injected`: what a bug or a machine may do to a running server, fault by fault.

Each row has a server of its own, in a process, with two shows. A fault ends in healing (a prompt becomes a picture
again) or in an exit status other than 0, upon which a service manager starts the server again. Meanwhile /livez and
/readyz are asked all the time. `after_s`: from the end of the fault to the picture, or from its beginning to the exit.
`false_s`: how long /livez and /readyz said 200 while the second show, which gets prompt after prompt, had no picture,
beyond the time of a prompt. 5 s are allowed; also for /readyz to say 200 again after the picture.

Some faults need a mount namespace (`unshare`, root or user namespaces): a small /dev/shm, a full disk. Without one,
their row says so. Asyncio; `faults.py` calls `main`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import resource
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp

from bench.attacks.attacker import until
from bench.attacks.media import watching
from bench.parts.machine import machine_facts
from bench.parts.served import SOURCE, environment

FAULTY_SERVER = SOURCE / "tests" / "server" / "faulty_server.py"
# After so many seconds without a picture, there never will be one.
PATIENCE_S = 40.0
START_TIMEOUT_S = 60.0
MOST_FALSE_S = 5.0
POLL_S = 0.1
STOPPED_S = 10.0
NO_FILES_S = 4.0
WATCHED_S = 3.0
WORKED_S = 0.1  # of CPU time
SYNTHETIC = ("--engine", "synthetic")
_PATH = os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])


@dataclass(slots=True)
class Row:
    fault: str
    outcome: str
    after_s: float | None = None
    false_s: float | None = None
    lost: str = ""
    is_good: bool = True


class Show:
    """A stage and its controller, whose messages are always read: the server drops one that answers no ping."""

    def __init__(self, controller: aiohttp.ClientWebSocketResponse) -> None:
        self.controller = controller
        self.session_id = ""
        self._messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read())

    async def start(self) -> None:
        await self.say("session.start", on_preview="off", quality="fast")
        self.session_id = (await self.hear("session.created"))["session_id"]

    async def say(self, kind: str, **fields: Any) -> None:
        await self.controller.send_json({"type": kind, **fields})

    async def hear(self, *kinds: str) -> dict[str, Any]:
        """Raises `ConnectionError` at the connection's end."""
        while (message := await self._messages.get()) is not None:
            if message["type"] in kinds:
                return message
        self._messages.put_nowait(None)
        raise ConnectionError("the server closed the connection")

    async def picture(self) -> float:
        """Sends a prompt; returns the seconds until it is on air. Raises `ConnectionError`, also if it fails."""
        sent_at = time.monotonic()
        await self.say("prompt.set", text="scene 1", transition="cut")
        answer = await self.hear("prompt.applied", "prompt.failed", "prompt.rejected", "error", "session.closed")
        if answer["type"] != "prompt.applied":
            raise ConnectionError(f"the prompt ended with {answer['type']}")
        return time.monotonic() - sent_at

    @property
    def has_ended(self) -> bool:
        return self._reading.done()

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self.controller.close()

    async def _read(self) -> None:
        try:
            async for frame in self.controller:
                if (message := json.loads(frame.data))["type"] != "stats.updated":
                    self._messages.put_nowait(message)
        finally:
            self._messages.put_nowait(None)


@dataclass(slots=True)
class Trial:
    """A server that runs, and its shows. A fault gets it, and returns when it is over."""

    process: asyncio.subprocess.Process
    url: str
    log: BinaryIO
    http: aiohttp.ClientSession
    shows: list[Show]
    others: list[aiohttp.ClientWebSocketResponse] = field(default_factory=list)  # that must stay open

    def log_text(self) -> str:
        return Path(f"/proc/self/fd/{self.log.fileno()}").read_text(errors="replace")

    @property
    def engine_pid(self) -> int:
        """Of the engine process that was ready last."""
        return int(re.findall(r"engine ready after .* pid (\d+)", self.log_text())[-1])


# A fault: strikes, returns when it is over; its words say what was lost.
Fault = Callable[[Trial], Awaitable[str]]


class Health:
    """Asks /livez and /readyz all the time, on kept connections, and prompts the last show one time after the other.

    No answer within a second counts as no.
    """

    def __init__(self, url: str, show: Show, usual_s: float) -> None:
        self._url = url
        self._show = show
        self._usual_s = usual_s  # of a prompt
        self._ready_at: list[tuple[float, bool]] = []
        self._pictures_at = [time.monotonic()]

    async def watch(self) -> None:
        await asyncio.gather(self._prompt(), self._poll())

    async def _prompt(self) -> None:
        while not self._show.has_ended:
            with contextlib.suppress(ConnectionError):  # a prompt that failed
                await self._show.picture()
                self._pictures_at.append(time.monotonic())
            await asyncio.sleep(POLL_S)

    async def _poll(self) -> None:
        async with aiohttp.ClientSession(self._url, timeout=aiohttp.ClientTimeout(total=1.0)) as http:
            while True:
                asked_at = time.monotonic()
                answers = await asyncio.gather(*(self._ask(http, path) for path in ("/livez", "/readyz")))
                self._ready_at.append((asked_at, all(answers)))
                await asyncio.sleep(POLL_S)

    async def _ask(self, http: aiohttp.ClientSession, path: str) -> bool:
        try:
            async with http.get(path) as response:
                return response.status == 200
        except (TimeoutError, aiohttp.ClientError):
            return False

    def false_s(self, now: float) -> float:
        """The longest time in which the server called itself live and ready, and no picture came."""
        pairs = itertools.pairwise([*self._pictures_at, now])
        return max(0.0, max(self._ready_s(before, after) for before, after in pairs) - self._usual_s - POLL_S)

    def _ready_s(self, begin: float, end: float) -> float:
        """The longest time without a break."""
        longest_s = span_s = 0.0
        for (at, is_ready), (next_at, _) in itertools.pairwise([*self._ready_at, (end, False)]):
            span_s = span_s + max(0.0, min(next_at, end) - max(at, begin)) if is_ready else 0.0
            longest_s = max(longest_s, span_s)
        return longest_s

    async def becomes_ready(self, within_s: float) -> bool:
        give_up_at = time.monotonic() + within_s
        while time.monotonic() < give_up_at:
            if self._ready_at and self._ready_at[-1][1]:
                return True
            await asyncio.sleep(POLL_S)
        return False


# --- one row ------------------------------------------------------------------------------------------------------


async def row_of(name: str, command: Sequence[str], fault: Fault, **options: Any) -> Row:
    """`options`: of `running`."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            trial = await stack.enter_async_context(running(command, **options))
        except (TimeoutError, ConnectionError) as error:
            return Row(name, f"did not start: {error!r}", is_good=False)
        usual_s = max([await show.picture() for show in trial.shows])
        health = Health(trial.url, trial.shows[-1], usual_s)
        asking = asyncio.create_task(health.watch())
        try:
            return await _under_fault(name, trial, fault, health)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


async def _under_fault(name: str, trial: Trial, fault: Fault, health: Health) -> Row:
    ended = asyncio.create_task(trial.process.wait())
    struck_at = time.monotonic()
    striking = asyncio.create_task(fault(trial))
    await asyncio.wait({ended, striking}, return_when=asyncio.FIRST_COMPLETED)
    over_at = time.monotonic()
    healing = asyncio.create_task(_heals(trial))
    await asyncio.wait({ended, healing}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    if healing.done() and not healing.result():
        await asyncio.wait({ended}, timeout=PATIENCE_S)  # it closes its connections before it ends
    now = time.monotonic()
    row = Row(name, "nothing", false_s=round(health.false_s(now), 1), is_good=False)
    if ended.done():
        row.outcome, row.after_s = f"exit status {ended.result()}", round(now - struck_at, 1)
        row.is_good = ended.result() != 0
    elif healing.done() and healing.result():
        row.outcome, row.after_s = "healed", round(now - over_at, 1)
        row.is_good = await health.becomes_ready(MOST_FALSE_S)
    row.is_good = row.is_good and (row.false_s or 0.0) <= MOST_FALSE_S
    if striking.done() and not striking.cancelled():
        row.lost = str(striking.exception() or striking.result())
    for task in (ended, healing, striking):
        task.cancel()
    await asyncio.gather(ended, healing, striking, return_exceptions=True)
    return row


async def _heals(trial: Trial) -> bool:
    """True once a prompt becomes a picture on the first show, or on a new one in its place; False if none begins."""
    try:
        try:
            await trial.shows[0].picture()
        except ConnectionError:
            trial.shows[0] = Show(await trial.http.ws_connect("/v1/realtime"))
            await trial.shows[0].start()
            await trial.shows[0].picture()
    except (ConnectionError, aiohttp.ClientError):
        return False
    return True


@asynccontextmanager
async def running(
    command: Sequence[str],
    *,
    output: int = asyncio.subprocess.PIPE,
    log: int | None = None,
    port: int = 0,
    files: int | None = None,
    on_address: Callable[[asyncio.subprocess.Process], None] = lambda process: None,
) -> AsyncIterator[Trial]:
    """A server with two shows. `port`: needed if its output cannot be read. `log`: instead of a file that we read.
    `files`: its limit of open files. `on_address`: called when it has told its address."""

    def limit() -> None:
        if files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    with tempfile.TemporaryFile() as own_log, tempfile.TemporaryDirectory() as data_home:
        process = await asyncio.create_subprocess_exec(
            *(*command, "--port", str(port), "--max-sessions", "3"),
            stdout=output,
            stderr=own_log if log is None else log,
            cwd=SOURCE,
            env=environment(data_home) | {"PYTHONPATH": _PATH, "SCENESHIFT_NO_TOKEN": "true"},
            preexec_fn=limit,
        )
        try:
            url = f"http://127.0.0.1:{port}" if port else await _address(process)
            on_address(process)
            async with asyncio.timeout(START_TIMEOUT_S), aiohttp.ClientSession(url) as http:
                await _until_ready(http)
            async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as http:
                shows = [Show(await http.ws_connect("/v1/realtime")) for _ in range(2)]
                try:
                    for show in shows:
                        await show.start()
                    yield Trial(process, url, own_log, http, shows)
                finally:
                    for show in shows:
                        await show.close()
        finally:
            for number in (signal.SIGCONT, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)
            await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(START_TIMEOUT_S):
        while line := (await process.stdout.readline()).decode():
            if found := re.search(r"http://[^/\s]+", line):
                return found.group()
    raise ConnectionError("the server ended at once")


async def _until_ready(http: aiohttp.ClientSession) -> None:
    while True:
        with contextlib.suppress(aiohttp.ClientError):
            async with http.get("/readyz") as response:
                if response.status == 200:
                    return
        await asyncio.sleep(POLL_S)


# --- faults -------------------------------------------------------------------------------------------------------


async def essential_task_dies(trial: Trial) -> str:
    """While other clients wait for a stage, because one of the tasks works for them."""
    for expected in ("session.created", "session.queued"):
        waiting = await trial.http.ws_connect("/v1/realtime")
        await waiting.send_json({"type": "session.start"})
        await until(waiting, expected)
        trial.others.append(waiting)
    trial.process.send_signal(signal.SIGUSR1)
    return "all shows, until the next start"


async def program_dies(trial: Trial) -> str:
    """A pacer works only while somebody watches."""
    async with watching(trial.http, f"/whep/{trial.shows[0].session_id}"):
        trial.process.send_signal(signal.SIGUSR1)
        return await _shows_that_ended(trial)


async def _shows_that_ended(trial: Trial) -> str:
    ended = [asyncio.create_task(show.hear("session.closed")) for show in trial.shows]
    done, others = await asyncio.wait(ended, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    return f"{len(done)} show of 2; its controller was told"


async def server_stops(trial: Trial) -> str:
    trial.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(STOPPED_S)
    trial.process.send_signal(signal.SIGCONT)
    return f"{STOPPED_S:.0f} s of the shows"


async def engine_stops(trial: Trial) -> str:
    os.kill(trial.engine_pid, signal.SIGSTOP)
    return await _prompt_survives(trial)


async def engine_dies_without_files(trial: Trial) -> str:
    """No process can be spawned for some seconds: each needs descriptors."""
    limits = resource.prlimit(trial.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(trial.process.pid, resource.RLIMIT_NOFILE, (1, limits[1]))
    prompting = asyncio.create_task(_prompt_survives(trial))
    os.kill(trial.engine_pid, signal.SIGKILL)
    for pid in _children(trial.process.pid):  # the spare one, too
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(NO_FILES_S)
    resource.prlimit(trial.process.pid, resource.RLIMIT_NOFILE, limits)
    return await prompting


async def _prompt_survives(trial: Trial) -> str:
    try:
        return f"no prompt; {await trial.shows[0].picture():.1f} s for the one under way"
    except ConnectionError as error:
        return str(error)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def engine_killed(times: int) -> Fault:
    async def strike(trial: Trial) -> str:
        slowest_s, num_lost = 0.0, 0
        for _ in range(times):
            prompting = asyncio.create_task(trial.shows[0].picture())
            await kill_engine_at_work(trial)
            try:
                slowest_s = max(slowest_s, await prompting)
            except ConnectionError:
                num_lost += 1
        return f"{num_lost} of {times} prompts; the slowest took {slowest_s:.1f} s"

    return strike


async def kill_engine_at_work(trial: Trial) -> None:
    """Kills the engine once it has worked for a while. Another task reads the show's messages, so this looks at the
    process; there may be none, or another one, while an earlier death is healed."""
    pid, begun_s = 0, 0.0
    while True:
        with contextlib.suppress(OSError):
            if pid != trial.engine_pid:
                pid = trial.engine_pid
                begun_s = _cpu_s(pid)
            if _cpu_s(pid) - begun_s >= WORKED_S:
                os.kill(pid, signal.SIGKILL)
                return
        await asyncio.sleep(0.01)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def files_run_out(trial: Trial) -> str:
    """More silent connections than the server has descriptors, until it closes them."""
    host, port = trial.url.removeprefix("http://").split(":")
    opened = []
    for _ in range(300):
        with contextlib.suppress(OSError):
            opened.append(await asyncio.open_connection(host, int(port)))
    await asyncio.gather(*(reader.read() for reader, _ in opened), return_exceptions=True)
    num_lines = len(trial.log_text().splitlines())
    for _, writer in opened:
        writer.transport.abort()
    return f"new connections until silent ones are closed; {num_lines} lines of log in all"


def close_output(process: asyncio.subprocess.Process) -> None:
    """`sceneshift serve | head -1`: the server prints once more, when its engine is ready, which the signal causes."""
    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    process.send_signal(signal.SIGUSR1)


async def nothing_happens(trial: Trial) -> str:
    """The fault lasts from the start."""
    return "nothing but its lines"


async def recording_meets_full_disk(trial: Trial, folder: Path) -> str:
    """A recording runs while another program fills the disk, and begins again when there is room."""
    show = trial.shows[0]
    seen = Path(f"/proc/{trial.process.pid}/root") / folder.relative_to("/") / "filler"
    await show.say("program.record", recording=True)
    await show.hear("recording.changed")
    await asyncio.sleep(2.0)
    disk = os.statvfs(seen.parent)
    with seen.open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, disk.f_bavail * disk.f_frsize - 16 * 1024)
    ended = await show.hear("recording.changed")
    seen.unlink()
    await show.say("program.record", recording=True)
    again = await show.hear("recording.changed")
    return (
        f"the recording after {ended['duration_s']:.1f} s, with its file: {ended['error']['code']}; "
        f"the next one {'runs' if again['recording'] else 'does not run'}"
    )


async def clock_steps(trial: Trial) -> str:
    async with watching(trial.http, f"/whep/{trial.shows[0].session_id}") as viewer:
        trial.process.send_signal(signal.SIGUSR1)
        before = viewer.num_frames
        await asyncio.sleep(WATCHED_S)
        return f"nothing; a WebRTC viewer saw {viewer.num_frames - before} pictures in the next {WATCHED_S:.0f} s"


# --- the table ----------------------------------------------------------------------------------------------------


def _serve(*flags: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "server", "serve", "--cache-memory", "0", *flags)


def _faulty(fault: str) -> tuple[str, ...]:
    return (sys.executable, str(FAULTY_SERVER), fault)


def _with_memory(folder: Path, size: str, command: Sequence[str]) -> tuple[str, ...]:
    """The command with a file system in memory on this folder, which it alone sees."""
    as_root = () if os.getuid() == 0 else ("--map-root-user",)
    script = f'mount -t tmpfs -o size={size} tmpfs "{folder}" && exec "$@"'
    return ("unshare", *as_root, "--mount", "sh", "-c", script, "sh", *command)


async def _has_namespaces() -> bool:
    try:
        trying = await asyncio.create_subprocess_exec(*_with_memory(Path("/dev/shm"), "1m", ("true",)))
    except FileNotFoundError:
        return False
    return await trying.wait() == 0


async def _rows(num_kills: int) -> AsyncIterator[Row]:
    for task in ("engine-events", "session-ticks", "engine"):
        yield await row_of(f"death of the task {task}", _faulty(task), essential_task_dies)
    yield await row_of("death of a show's pacer", _faulty("pacer"), program_dies)
    yield await row_of("standard output closed", _faulty("late-start"), nothing_happens, on_address=close_output)
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        yield await row_of(
            "full disk behind output", _serve(*SYNTHETIC), nothing_happens, output=full, port=_free_port()
        )
    finally:
        os.close(full)
    yield await row_of("160 open files, 300 silent connections", _serve(*SYNTHETIC), files_run_out, files=160)
    for step in ("ahead", "back"):
        yield await row_of(f"wall clock a day {step}", _faulty(f"clock-{step}"), clock_steps)
    yield await row_of(f"server stopped for {STOPPED_S:.0f} s", _serve(*SYNTHETIC), server_stops)
    if await _has_namespaces():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            command = _with_memory(folder, "600m", _serve(*SYNTHETIC, "--recordings-folder", name))
            yield await row_of(
                "full disk of recordings", command, lambda trial: recording_meets_full_disk(trial, folder)
            )
        small = _with_memory(Path("/dev/shm"), "16m", _serve())
        yield await row_of("/dev/shm of 16 MB", small, _prompt_survives)
    else:
        for name in ("full disk of recordings", "/dev/shm of 16 MB"):
            yield Row(name, "not tried: no mount namespaces here")
    yield await row_of("engine stopped", _serve(), engine_stops)
    yield await row_of(f"engine and spare killed, no files for {NO_FILES_S:.0f} s", _serve(), engine_dies_without_files)
    yield await row_of(f"engine killed {num_kills} times", _serve(), engine_killed(num_kills))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


async def run(num_kills: int, *, shows_progress: bool) -> list[Row]:
    found = []
    async for row in _rows(num_kills):
        found.append(row)
        if shows_progress:
            print(
                "| " + " | ".join("" if value is None else str(value) for value in asdict(row).values()) + " |",
                flush=True,
            )
    return found


def main(num_kills: int, *, as_json: bool) -> int:
    if not as_json:
        names = list(Row.__dataclass_fields__)
        print("| " + " | ".join(names) + " |\n|" + "---|" * len(names), flush=True)
    found = asyncio.run(run(num_kills, shows_progress=not as_json))
    if as_json:
        facts = {"bench": "faults --injected", "machine": machine_facts()}
        print(json.dumps(facts | {"rows": [asdict(row) for row in found]}, indent=2))
    return 0 if all(row.is_good for row in found) else 1
