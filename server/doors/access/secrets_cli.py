"""`sceneshift secret`: makes a client secret with the server's token, also while no server runs."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from server import run_file
from server.doors.access import client_secrets
from server.doors.access.keyring import own_token
from server.doors.access.token_cli import add_data_folder, add_limit, duration_s, opened
from server.protocol.limits import parsed
from server.protocol.table import Scope
from server.store.store import StoreError


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="sceneshift secret",
        description="Make a client secret: a narrow stand-in for the server's token, for a page, a viewer or a link.",
    )
    parser.add_argument("--scope", action="append", choices=get_args(Scope), help="what it may do (default: view)")
    parser.add_argument("--session", help="the name of the one stage that it is for (default: any)")
    parser.add_argument("--for", dest="lives_s", type=duration_s, default="1h", help="how long (default 1h)")
    parser.add_argument("--origin", action="append", default=[], help="of the pages that may use it (default: any)")
    add_limit(parser)
    parser.add_argument("--token", help="the server's token; better given as SCENESHIFT_TOKEN (default: its own)")
    add_data_folder(parser)
    options = parser.parse_args(arguments)
    try:
        token = options.token or os.environ.get("SCENESHIFT_TOKEN") or _own_token(options.data_folder)
    except StoreError as error:
        print(f"sceneshift: {error}; or give the token as SCENESHIFT_TOKEN", file=sys.stderr)
        return 1
    try:
        limits = parsed(options.limit)
    except ValueError as error:
        print(f"sceneshift: {error}", file=sys.stderr)
        return 1
    scopes = options.scope or ["view"]
    secret = client_secrets.make(
        token,
        scopes,
        now=time.time(),
        lives_s=options.lives_s,
        session=options.session,
        origins=options.origin,
        limits=limits,
    )
    print(secret)
    return 0


def _own_token(data_folder: Path) -> str:
    """Of the one server that runs here, which may have been started with another token than the store's; else that of
    the store. Raises `StoreError`."""
    running = run_file.all_running({**os.environ, "SCENESHIFT_DATA_FOLDER": str(data_folder)})
    if len(running) == 1 and running[0].token is not None:
        return running[0].token
    with opened(data_folder) as store:
        return own_token(store)
