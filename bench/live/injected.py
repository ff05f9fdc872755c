"""`sceneshift bench faults --injected`: what a bug or a machine may do to a running server, fault by fault.

Each row has a server of its own, in a process, with two shows. A fault ends in healing (a prompt becomes a picture
again) or in an exit status other than 0, upon which a service manager starts the server again. Meanwhile /livez and
/readyz are asked all the time. `after_s`: from the end of the fault to the picture, or from its beginning to the exit.
`false_s`: how long /readyz said 200 while no picture came, beyond the time of a prompt. 5 s are allowed; also for
/readyz to say 200 again after the picture.

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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp

from bench.attacks.attacker import until
from bench.attacks.media import watching
from bench.parts.machine import machine_facts
from bench.parts.served import SOURCE

FAULTY_SERVER = SOURCE / "tests" / "server" / "faulty_server.py"
# After so many seconds without a picture, there never will be one.
PATIENCE_S = 60.0
START_TIMEOUT_S = 180.0
MOST_FALSE_S = 5.0
POLL_S = 0.1
STOPPED_S = 10.0
NO_FILES_S = 4.0
WATCHED_S = 3.0
SYNTHETIC = ("--engine", "synthetic")
_MB = 2**20


@dataclass(slots=True)
class Row:
    fault: str
    outcome: str
    after_s: float | None = None
    false_s: float | None = None
    lost: str = ""
    is_good: bool = True


@dataclass(slots=True)
class Trial:
    """A server that runs, and its shows. A fault gets it, and returns when it is over."""

    process: asyncio.subprocess.Process
    url: str
    log: BinaryIO
    http: aiohttp.ClientSession
    shows: list[aiohttp.ClientWebSocketResponse]
    show_ids: list[str]

    def log_text(self) -> str:
        return Path(f"/proc/self/fd/{self.log.fileno()}").read_text(errors="replace")

    @property
    def engine_pid(self) -> int:
        """Of the engine process that was ready last."""
        return int(re.findall(r"engine ready after .* pid (\d+)", self.log_text())[-1])

    async def picture(self, number: int = 0) -> float:
        """Sends a prompt; returns the seconds until it is on air. Raises `ConnectionError`, also if it fails."""
        sent_at = time.monotonic()
        await self.shows[number].send_json({"type": "prompt.set", "text": "scene 1", "transition": "cut"})
        answer = await until(self.shows[number], "prompt.applied", "prompt.failed", "prompt.rejected", "error")
        if answer["type"] != "prompt.applied":
            raise ConnectionError(f"the prompt ended with {answer['type']}")
        return time.monotonic() - sent_at


# A fault: strikes, returns when it is over; its words say what was lost.
Fault = Callable[[Trial], Awaitable[str]]


class Health:
    """Asks /livez and /readyz all the time, on kept connections. No answer within a second counts as no."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ready_at: list[tuple[float, bool]] = []

    async def watch(self) -> None:
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

    def ready_s(self, begin: float, end: float) -> float:
        """How long the server called itself live and ready between two times."""
        times = [*self._ready_at, (end, False)]
        spans = ((now, then, is_ready) for (now, is_ready), (then, _) in itertools.pairwise(times))
        return sum(max(0.0, min(then, end) - max(now, begin)) for now, then, is_ready in spans if is_ready)

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
    async with running(command, **options) as trial:
        usual_s = max([await trial.picture(number) for number in range(len(trial.shows))])
        health = Health(trial.url)
        asking = asyncio.create_task(health.watch())
        try:
            return await _under_fault(name, trial, fault, health, usual_s)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


async def _under_fault(name: str, trial: Trial, fault: Fault, health: Health, usual_s: float) -> Row:
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
    row = Row(name, "nothing", false_s=round(max(0.0, health.ready_s(struck_at, now) - usual_s), 1), is_good=False)
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
    """True once a prompt becomes a picture on each show that is left; False if none is left."""
    alive = 0
    for number, show in enumerate(trial.shows):
        with contextlib.suppress(ConnectionError):
            if not show.closed:
                await trial.picture(number)
                alive += 1
    return alive > 0


@asynccontextmanager
async def running(
    command: Sequence[str],
    *,
    output: int = asyncio.subprocess.PIPE,
    log: int | None = None,
    port: int = 0,
    files: int | None = None,
) -> AsyncIterator[Trial]:
    """A server with two shows. `port`: needed if its output cannot be read. `log`: instead of a file that we read.
    `files`: its limit of open files."""

    def limit() -> None:
        if files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    with tempfile.TemporaryFile() as own_log:
        process = await asyncio.create_subprocess_exec(
            *(*command, "--port", str(port), "--max-sessions", "3"),
            stdout=output,
            stderr=own_log if log is None else log,
            cwd=SOURCE,
            env=_environment(),
            preexec_fn=limit,
        )
        try:
            url = f"http://127.0.0.1:{port}" if port else await _address(process)
            async with asyncio.timeout(START_TIMEOUT_S), aiohttp.ClientSession(url) as http:
                await _until_ready(http)
            async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as http:
                shows = [await _show(http) for _ in range(2)]
                yield Trial(process, url, own_log, http, [show for show, _ in shows], [name for _, name in shows])
        finally:
            for number in (signal.SIGCONT, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)
            await process.wait()


def _environment() -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SCENESHIFT_")}
    return ours | {"PYTHONPATH": os.pathsep.join([str(SOURCE), ours.get("PYTHONPATH", "")])}


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


async def _show(http: aiohttp.ClientSession) -> tuple[aiohttp.ClientWebSocketResponse, str]:
    controller = await http.ws_connect("/v1/realtime")
    await controller.send_json({"type": "session.start", "on_preview": "off", "quality": "fast"})
    return controller, str((await until(controller, "session.created"))["session_id"])


# --- faults -------------------------------------------------------------------------------------------------------


async def essential_task_dies(trial: Trial) -> str:
    """While other clients wait for a stage, because one of the tasks works for them."""
    waiting = [await trial.http.ws_connect("/v1/realtime") for _ in range(2)]
    for one in waiting:
        await one.send_json({"type": "session.start"})
    await until(waiting[-1], "session.queued")
    trial.process.send_signal(signal.SIGUSR1)
    return "all shows, until the next start"


async def program_dies(trial: Trial) -> str:
    trial.process.send_signal(signal.SIGUSR1)
    ended = [asyncio.create_task(until(show, "session.closed")) for show in trial.shows]
    done, others = await asyncio.wait(ended, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for show, task in zip(trial.shows, ended, strict=True):
        if task in done:
            await show.close()
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
        return f"no prompt; {await trial.picture():.1f} s for the one under way"
    except ConnectionError as error:
        return str(error)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def engine_killed(times: int) -> Fault:
    async def strike(trial: Trial) -> str:
        slowest_s, num_lost = 0.0, 0
        for _ in range(times):
            prompting = asyncio.create_task(trial.picture())
            await until_started(trial)
            os.kill(trial.engine_pid, signal.SIGKILL)
            try:
                slowest_s = max(slowest_s, await prompting)
            except ConnectionError:
                num_lost += 1
        return f"{num_lost} of {times} prompts; the slowest took {slowest_s:.1f} s"

    return strike


async def until_started(trial: Trial) -> None:
    """The engine works: this follows its process, since another task reads the show's messages."""
    pid = trial.engine_pid
    begun = _cpu_s(pid)
    while _cpu_s(pid) - begun < 0.1:  # noqa: ASYNC110  another process's state
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


async def output_closes(trial: Trial) -> str:
    """`sceneshift serve | head -1`: the server prints once more, when its engine is ready."""
    trial.process.stdout._transport.close()  # type: ignore[union-attr]
    trial.process.send_signal(signal.SIGUSR1)
    await asyncio.sleep(1.0)
    return "nothing but its lines"


async def nothing_happens(trial: Trial) -> str:
    """The fault lasts from the start."""
    return "nothing but its lines"


async def recording_meets_full_disk(trial: Trial, folder: Path) -> str:
    """A recording runs while another program fills the disk, and begins again when there is room."""
    show = trial.shows[0]
    seen = Path(f"/proc/{trial.process.pid}/root") / folder.relative_to("/") / "filler"
    await show.send_json({"type": "program.record", "recording": True})
    await until(show, "recording.changed")
    await asyncio.sleep(2.0)
    disk = os.statvfs(seen.parent)
    with seen.open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, disk.f_bavail * disk.f_frsize - 16 * 1024)
    ended = await until(show, "recording.changed")
    seen.unlink()
    await show.send_json({"type": "program.record", "recording": True})
    again = await until(show, "recording.changed")
    return (
        f"the recording after {ended['duration_s']:.1f} s, with its file: {ended['error']['code']}; "
        f"the next one {'runs' if again['recording'] else 'does not run'}"
    )


async def clock_steps(trial: Trial) -> str:
    async with watching(trial.http, f"/whep/{trial.show_ids[0]}") as viewer:
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


async def rows(num_kills: int) -> AsyncIterator[Row]:
    for task in ("engine-events", "session-ticks", "engine"):
        yield await row_of(f"death of the task {task}", _faulty(task), essential_task_dies)
    yield await row_of("death of a show's pacer", _faulty("pacer"), program_dies)
    yield await row_of("standard output closed", _faulty("late-start"), output_closes)
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        yield await row_of(
            "full disk behind output", _serve(*SYNTHETIC), nothing_happens, output=full, port=_free_port()
        )
    finally:
        os.close(full)
    yield await row_of("160 open files, 300 silent connections", _serve(*SYNTHETIC), files_run_out, files=160)
    for step in ("clock-ahead", "clock-back"):
        yield await row_of(
            f"wall clock a day {step.removeprefix('clock-')}", _faulty(step), clock_steps(signal.SIGUSR1)
        )
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
    async for row in rows(num_kills):
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
