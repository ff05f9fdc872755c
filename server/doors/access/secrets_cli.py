"""`sceneshift secret`: makes a client secret with the server's token, without a running server."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import get_args

from server.doors.access import client_secrets
from server.protocol.limits import Limits, parsed
from server.protocol.table import Scope

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration_s(text: str) -> int:
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if match is None:
        raise argparse.ArgumentTypeError("expected a time such as 90s, 30m, 12h or 7d")
    return int(match[1]) * _UNITS_S[match[2]]


def add_limit(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(Limits.__struct_fields__)
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=VALUE", help=f"one of {names}")


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
    parser.add_argument("--token", help="the server's token; better given as SCENESHIFT_TOKEN")
    options = parser.parse_args(arguments)
    token = options.token or os.environ.get("SCENESHIFT_TOKEN")
    if not token:
        print("sceneshift: give the server's token as SCENESHIFT_TOKEN, or with --token", file=sys.stderr)
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
