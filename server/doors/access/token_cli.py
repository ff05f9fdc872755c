"""`sceneshift token`: makes, lists and revokes keys in the store. A running server notices within a second."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from os import environ
from pathlib import Path
from typing import get_args

from server.config import default_data_folder
from server.protocol.limits import Limits, parsed, written
from server.protocol.table import Scope
from server.store import keys
from server.store.keys import Key, KeyRefused
from server.store.store import FILE_NAME, Store, StoreError

# An operator's alone: they show what other keys do.
_OPERATORS: tuple[Scope, ...] = ("admin",)
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    if options.command is None:
        print(keys.new_token())
        return 0
    try:
        with opened(options.data_folder) as store:
            status: int = options.command(store, options)
            return status
    except (StoreError, KeyRefused, ValueError) as error:
        print(f"sceneshift: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sceneshift token",
        description="Keys of this server. Without a command: prints random text for --token or SCENESHIFT_TOKEN.",
    )
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands")
    making = commands.add_parser("make", help="make a key for a customer or a program, and print it once")
    making.add_argument("name")
    making.add_argument(
        "--scope", action="append", choices=get_args(Scope), help="what it may do (default: all but admin)"
    )
    making.add_argument("--for", dest="lives_s", type=duration_s, help="how long, as 12h or 90d (default: for ever)")
    add_limit(making)
    making.set_defaults(command=_make)
    listing = commands.add_parser("list", help="the keys, without their secrets")
    listing.set_defaults(command=_list)
    revoking = commands.add_parser("revoke", help="end a key, its client secrets, and what they hold open")
    revoking.add_argument("name", help="the key's name or id")
    revoking.set_defaults(command=_revoke)
    for command in (making, listing, revoking):
        add_data_folder(command)
    return parser


def duration_s(text: str) -> int:
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if match is None:
        raise argparse.ArgumentTypeError("expected a time such as 90s, 30m, 12h or 7d")
    return int(match[1]) * _UNITS_S[match[2]]


def add_limit(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(Limits.__struct_fields__)
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=VALUE", help=f"one of {names}")


def add_data_folder(parser: argparse.ArgumentParser) -> None:
    default = environ.get("SCENESHIFT_DATA_FOLDER") or default_data_folder(environ)
    parser.add_argument(
        "--data-folder", metavar="FOLDER", type=Path, default=default, help="the server's (%(default)s)"
    )


@contextmanager
def opened(folder: str | Path) -> Iterator[Store]:
    """The store of the server with this data folder. Raises `StoreError`."""
    store = Store(Path(folder) / FILE_NAME)
    store.open()
    try:
        yield store
    finally:
        store.close()


def local_time(at: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at is not None else "-"


def _make(store: Store, options: argparse.Namespace) -> int:
    now = time.time()
    scopes = options.scope or [scope for scope in get_args(Scope) if scope not in _OPERATORS]
    expires_at = now + options.lives_s if options.lives_s is not None else None
    limits = parsed(options.limit)
    making = partial(keys.make_key, name=options.name, scopes=scopes, now=now, expires_at=expires_at, limits=limits)
    key = store.ask_now(making)
    print(key.text)
    return 0


def _list(store: Store, options: argparse.Namespace) -> int:
    now = time.time()
    row = "{:<10} {:<28} {:<32} {:<17} {:<17} {:<10} {}"
    print(row.format("ID", "NAME", "SCOPES", "MADE", "ENDS", "STATE", "LIMITS"))
    for key in store.ask_now(keys.all_keys):
        scopes, times = " ".join(sorted(key.scopes)), (local_time(key.made_at), local_time(key.expires_at))
        print(row.format(key.id, key.name, scopes, *times, _state(key, now), written(key.limits)))
    return 0


def _state(key: Key, now: float) -> str:
    if key.revoked_at is not None:
        return f"revoked {local_time(key.revoked_at)}"
    return "good" if key.is_good(now) else "ended"


def _revoke(store: Store, options: argparse.Namespace) -> int:
    key = store.ask_now(partial(keys.revoke_key, name=options.name, now=time.time()))
    print(f"revoked {key.name} ({key.id}); what it held open ends within a second")
    return 0
