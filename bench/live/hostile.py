"""`sceneshift bench hostile`: one hostile client beside a running show; does the show notice?

Each row has a server of its own (`sceneshift serve --engine synthetic`, a process), one stage with a controller and one
viewer over WebSocket (`bench.parts.show`), and the attacker in a third process (`bench.attacks`). An attack sends for
`--seconds`, or holds what it has opened for some seconds more than the server allows. A row says what the attacker got
and what the show and the machine noticed, and names the bounds that it broke. The exit status is 1 if a row broke one.

The attacker comes from another address of this machine than the show, as a client on the network does, so that bounds
by address hold. With `--loopback` it does not: then it is like a client behind a proxy that the operator did not name.
Its process has the lowest priority, because an attacker's own work burns no core of the server's machine.

Columns: `by`: a stranger without a token, or its holder; `from`: the other address or loopback; `stall_ms`: the longest
time between two frames at the show's viewer; `livez_ms`: the longest answer of /livez; `growth_mb` and `files`: the
largest growth of the server's memory and of its open files; `left`: files that are still open at the end; `log`: bytes
of the server's log (its standard error) for each byte that the attacker sent.

`--source FOLDER` tries the server of another checkout: the same attacks before a change and after it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.attacks.__main__ import TOKEN_VARIABLE
from bench.attacks.attacker import ATTACK_S, client
from bench.attacks.table import ATTACKS, Attack
from bench.parts.busy import add_flag, beside_busy
from bench.parts.machine import machine_facts
from bench.parts.served import SOURCE, Served, served
from bench.parts.show import Noticed, Show

# What other shows may notice: of attacks with a token, and without one.
MOST_STALL_MS, MOST_STALL_BY_STRANGERS_MS = 100, 60
MOST_GROWTH_MB = 32
MOST_LOG_SHARE = 0.1
# For single lines (a warning of the minute) after an attack that sends next to nothing.
FREE_LOG_BYTES = 2000
MIN_PLAY_RATIO = 0.9995  # 1.0 as it is printed
_FAR = "203.0.113.1"  # documentation's (RFC 5737); nothing is sent there


@dataclass(slots=True)
class Row:
    attack: str
    by: str
    coming_from: str
    got: str
    stall_ms: int
    play_ratio: float
    livez_ms: int
    growth_mb: int
    files: int
    files_left: int
    log_bytes: int
    log_share: float
    broken: list[str] = field(default_factory=list)


def broken_bounds(row: Row, *, is_timed: bool = True) -> list[str]:
    """The bounds that this row broke. `is_timed`: also those that a busy machine breaks."""
    is_stranger, has_log = row.by == "stranger", row.log_bytes > FREE_LOG_BYTES
    most_stall_ms = MOST_STALL_BY_STRANGERS_MS if is_stranger else MOST_STALL_MS
    bounds = {
        f"memory over {MOST_GROWTH_MB} MB": row.growth_mb > MOST_GROWTH_MB,
        # A holder's stages and viewers have a line each. A stage of its own, and its recording, may outlive it.
        f"log over {MOST_LOG_SHARE} bytes a byte": is_stranger and has_log and row.log_share > MOST_LOG_SHARE,
        "files left open": is_stranger and row.files_left > 0,
        f"stall over {most_stall_ms} ms": is_timed and row.stall_ms > most_stall_ms,
        "play ratio below 1.0": is_timed and row.play_ratio < MIN_PLAY_RATIO,
    }
    return [bound for bound, is_broken in bounds.items() if is_broken]


def own_address() -> str | None:
    """An address of this machine that is not loopback; None without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_FAR, 9))
        except OSError:
            return None
        address = str(probe.getsockname()[0])
        return None if address.startswith("127.") else address


async def beside_a_show(
    name: str, *, seconds: float = ATTACK_S, source: Path = SOURCE, by_loopback: bool = False
) -> Row:
    """One row: a server, a show, and this attack."""
    attack, token = ATTACKS[name], secrets.token_hex(20)
    with tempfile.TemporaryDirectory() as folder:
        async with served(flags_of(attack, token, folder), source=source) as server:
            local = server.url.replace("localhost", "127.0.0.1")
            async with client(local, token) as http, Show(server, http).on() as show:
                return await under_attack(name, show, server, token, seconds=seconds, by_loopback=by_loopback)


def flags_of(attack: Attack, token: str, recordings_folder: str) -> tuple[str, ...]:
    """A server with a token listens on all addresses, so that an attacker may come from another one than the show."""
    flags = ("--engine", "synthetic", "--max-sessions", "4", "--recordings-folder", recordings_folder, *attack.flags)
    return flags if attack.needs_no_token else (*flags, "--token", token, "--host", "0.0.0.0")


async def under_attack(
    name: str, show: Show, server: Served, token: str, *, seconds: float, by_loopback: bool = False
) -> Row:
    attack = ATTACKS[name]
    host = (None if by_loopback or attack.needs_no_token else own_address()) or "127.0.0.1"
    url = f"http://{host}:{server.url.rpartition(':')[2]}"
    show.begin()
    outcome = await _in_its_own_process(name, url, token, seconds)
    noticed = await show.settle()
    row = _row(name, attack, noticed, outcome, host)
    row.broken = outcome["holes"] + broken_bounds(row) + ([] if show.is_on else ["the show has ended"])
    return row


def _row(name: str, attack: Attack, noticed: Noticed, outcome: dict[str, Any], host: str) -> Row:
    return Row(
        attack=name,
        by="stranger" if attack.is_stranger else "token",
        coming_from="loopback" if host == "127.0.0.1" else "another address",
        got=outcome["got"],
        stall_ms=round(noticed.stall_s * 1000),
        play_ratio=round(noticed.play_ratio, 4),
        livez_ms=round(noticed.livez_s * 1000),
        growth_mb=round(noticed.growth_mb),
        files=noticed.num_files,
        files_left=noticed.num_files_left,
        log_bytes=noticed.num_log_bytes,
        log_share=round(noticed.num_log_bytes / max(1, outcome["num_bytes"]), 4),
    )


async def _in_its_own_process(name: str, url: str, token: str, seconds: float) -> dict[str, Any]:
    command = (sys.executable, "-m", "bench.attacks", name, url, "--seconds", str(seconds))
    environment = os.environ | {TOKEN_VARIABLE: token}
    process = await asyncio.create_subprocess_exec(
        *("nice", "-n", "19", *command), stdout=asyncio.subprocess.PIPE, cwd=SOURCE, env=environment
    )
    output, _ = await process.communicate()
    if process.returncode:
        return {"got": "the attacker failed", "holes": ["the attacker failed: see its error above"], "num_bytes": 0}
    outcome: dict[str, Any] = json.loads(output)
    return outcome


async def run(
    names: Sequence[str], *, seconds: float, source: Path, by_loopback: bool, shows_progress: bool
) -> list[Row]:
    rows = []
    for name in names:
        row = await beside_a_show(name, seconds=seconds, source=source, by_loopback=by_loopback)
        rows.append(row)
        if shows_progress:
            print(_line(row), flush=True)
    return rows


_COLUMNS = (
    "attack",
    "by",
    "from",
    "got",
    "stall_ms",
    "ratio",
    "livez_ms",
    "growth_mb",
    "files",
    "left",
    "log",
    "bound",
)


def _line(row: Row) -> str:
    figures = (row.stall_ms, row.play_ratio, row.livez_ms, row.growth_mb, row.files, row.files_left, row.log_share)
    cells = (row.attack, row.by, row.coming_from, row.got, *figures, "; ".join(row.broken) or "-")
    return "| " + " | ".join(map(str, cells)) + " |"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="sceneshift bench hostile", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(ATTACKS), metavar="NAME", help=", ".join(ATTACKS))
    parser.add_argument("--seconds", type=float, default=ATTACK_S, help="of an attack (default: %(default)s)")
    parser.add_argument("--loopback", action="store_true", help="attack from the show's own address")
    parser.add_argument("--source", type=Path, default=SOURCE, help="the checkout whose server to try")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    add_flag(parser)
    arguments = parser.parse_args(argv)
    if not arguments.json:
        print("| " + " | ".join(_COLUMNS) + " |\n|" + "---|" * len(_COLUMNS), flush=True)
    work = run(
        arguments.only or list(ATTACKS),
        seconds=arguments.seconds,
        source=arguments.source.resolve(),
        by_loopback=arguments.loopback,
        shows_progress=not arguments.json,
    )
    rows = asyncio.run(beside_busy(arguments.busy, work))
    if arguments.json:
        facts = {"bench": "hostile", "machine": machine_facts(), "busy": arguments.busy}
        print(json.dumps(facts | {"rows": [asdict(row) for row in rows]}, indent=2))
    if any(row.attack == "nobody" and row.broken for row in rows):
        print("bench hostile: this machine is too busy: the row without an attack broke a bound, too", file=sys.stderr)
    return 1 if any(row.broken for row in rows) else 0
