"""`sceneshift erase`: removes a key's clips, or those of one of its users, with their words, files and events.

A server may run meanwhile. It stops what it makes of them within a minute.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from server.clips import rows
from server.clips.folder import ClipFolder
from server.doors.access.token_cli import add_data_folder, opened
from server.store import audit, keys
from server.store.audit import OK, Entry
from server.store.keys import MAIN
from server.store.store import Store, StoreError


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="sceneshift erase",
        description="Removes the clips of a key, with their prompts, files, events and, without --user, its webhooks. "
        "The key itself stays; `sceneshift token revoke` ends it.",
    )
    parser.add_argument(
        "--key",
        metavar="NAME",
        required=True,
        help="its name or id; of one that was revoked, its id; main for the server's own token",
    )
    parser.add_argument("--user", metavar="NAME", help="only clips that were ordered with this `user`")
    add_data_folder(parser)
    parser.add_argument(
        "--clips-folder",
        metavar="FOLDER",
        type=Path,
        default=os.environ.get("SCENESHIFT_CLIPS_FOLDER"),
        help="the server's (default: in the data folder)",
    )
    options = parser.parse_args(arguments)
    folder = ClipFolder(Path(options.clips_folder or Path(options.data_folder) / "clips"))
    try:
        with opened(options.data_folder) as store:
            tenant = _tenant(store, options.key)
            if tenant is None:
                print(
                    f"sceneshift: there is no key `{options.key}`; `sceneshift token list` shows all", file=sys.stderr
                )
                return 1
            num_erased = _erase(store, folder, tenant, options.user)
    except StoreError as error:
        print(f"sceneshift: {error}", file=sys.stderr)
        return 1
    print(f"erased {num_erased} clips; backups that were made before still hold their words")
    return 0


def _tenant(store: Store, name: str) -> str | None:
    """A key's id. The token of `--token` has no row; a server without a token works for the tenant ""."""
    for key in store.ask_now(keys.all_keys):
        if name in (key.name, key.id):
            return key.id
    return name if name in (MAIN, "") else None


def _erase(store: Store, folder: ClipFolder, tenant: str, user: str | None) -> int:
    """The number of clips. Raises `StoreError`."""
    ids = store.ask_now(partial(rows.erase, tenant=tenant, user=user))
    for video_id in ids:
        folder.remove_finished(video_id)
    entry = Entry(time.time(), tenant, "sceneshift erase", "", "erase", "", OK)
    store.ask_now(partial(audit.insert, entry=entry))
    store.wipe_now()
    return len(ids)
