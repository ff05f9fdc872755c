"""`sceneshift audit`: prints who did what on this server, from its store."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import msgspec

from server.doors.access.token_cli import add_data_folder, local_time, opened
from server.store import audit
from server.store.store import StoreError


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="sceneshift audit", description="Who did what on this server, newest first.")
    parser.add_argument("--limit", type=int, default=50, help="how many entries (default 50)")
    parser.add_argument("--refused", action="store_true", help="refusals only")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    add_data_folder(parser)
    options = parser.parse_args(arguments)
    try:
        with opened(options.data_folder) as store:
            entries = store.ask_now(
                lambda connection: audit.newest(connection, options.limit, refused_only=options.refused)
            )
    except StoreError as error:
        print(f"sceneshift: {error}", file=sys.stderr)
        return 1
    for _, entry in entries:
        if options.json:
            print(json.dumps(msgspec.structs.asdict(entry)))
        else:
            times = f" ({entry.times} times)" if entry.times > 1 else ""
            where = f"{entry.who or '-'} at {entry.peer or '-'}"
            print(f"{local_time(entry.at)}  {entry.outcome:<14} {entry.action} {entry.session or '-'}  {where}{times}")
    return 0
