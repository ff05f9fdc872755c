"""`sceneshift backup`: copies the store of a server, which may run meanwhile."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from server.doors.access.token_cli import add_data_folder
from server.store.backup import back_up
from server.store.store import FILE_NAME, StoreError


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="sceneshift backup",
        description="Copies keys, clip jobs, webhooks and the audit log into FILE, while the server runs. "
        "Not the clips' files. To restore: stop the server, and put FILE in place of store.db in the data folder.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="is replaced if it is there")
    add_data_folder(parser)
    options = parser.parse_args(arguments)
    try:
        num_bytes = back_up(Path(options.data_folder) / FILE_NAME, options.file)
    except StoreError as error:
        print(f"sceneshift: {error}", file=sys.stderr)
        return 1
    print(f"{options.file}: {num_bytes} bytes; it holds keys, so keep it as you keep those")
    return 0
