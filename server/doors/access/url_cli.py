"""`sceneshift url`: prints the address of a server that runs here, with its token in the fragment."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from os import environ

from server import run_file
from server.doors.access.token_cli import add_data_folder


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="sceneshift url",
        description="The address of each server of yours that runs here, with its token.",
    )
    parser.add_argument("--port", type=int, help="of the server (default: every port)")
    add_data_folder(parser)
    options = parser.parse_args(arguments)
    running = run_file.all_running({**environ, "SCENESHIFT_DATA_FOLDER": str(options.data_folder)})
    found = [one for one in running if options.port in (None, one.port)]
    if not found:
        where = "" if options.port is None else f" on port {options.port}"
        print(f"sceneshift: no server of yours runs on this machine{where}", file=sys.stderr)
        return 1
    for one in found:
        print(one.link)
    return 0
