"""The `sceneshift` command: serve, url, generate, bench, doctor, token, secret, audit, erase, backup.

The entry point: reads arguments and environment once, puts an engine behind the server, and imports a subcommand's
modules only when it is called. Nothing here imports torch; the engine process does.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.api import Engine
    from engine.config import LoadSettings
    from server.config import Settings
    from server.store.store import Store

_USAGE = """\
usage: sceneshift COMMAND [OPTIONS]

  serve      serve stages: prompts in over WebSocket, live video out over WebRTC
  url        the address of the server that runs here, with its token
  generate   prompts to files, by the server that runs here or without one
  bench      measure: what a viewer sees, how faults are survived
  doctor     what this machine has and lacks
  token      make, list and revoke the keys of this server
  secret     make a client secret from one: for a viewer, a page, a link
  audit      who did what on this server
  erase      remove the clips and prompts of a key, or of one of its users
  backup     copy keys, clip jobs and the audit log, while the server runs

Each command explains itself with --help.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; gives the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    commands: dict[str, Callable[[Sequence[str]], int]] = {
        "serve": _serve,
        "url": _elsewhere("server.doors.access.url_cli"),
        "generate": _generate,
        "bench": _elsewhere("bench.__main__"),
        "doctor": _elsewhere("server.doctor.doctor"),
        "token": _elsewhere("server.doors.access.token_cli"),
        "audit": _elsewhere("server.doors.access.audit_cli"),
        "secret": _elsewhere("server.doors.access.secrets_cli"),
        "erase": _elsewhere("server.doors.access.erase_cli"),
        "backup": _elsewhere("server.doors.access.backup_cli"),
    }
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help", "help"):
        print(_USAGE, end="")
        return 0 if arguments else 2
    if name not in commands:
        print(f"sceneshift: there is no command {name!r}\n\n{_USAGE}", end="", file=sys.stderr)
        return 2
    return commands[name](arguments[1:])


def _elsewhere(module: str) -> Callable[[Sequence[str]], int]:
    def run(arguments: Sequence[str]) -> int:
        return int(importlib.import_module(module).main(list(arguments)) or 0)

    return run


# --- serve --------------------------------------------------------------------------------------------------------


def _serve(arguments: Sequence[str]) -> int:
    from engine.api import ModelError  # noqa: PLC0415
    from server import app, config  # noqa: PLC0415
    from server.doors.access.keyring import own_token  # noqa: PLC0415
    from server.media.video.hardware import EncoderUnusable  # noqa: PLC0415
    from server.run_file import RunFileError, folder_of  # noqa: PLC0415
    from server.store.store import StoreError  # noqa: PLC0415

    try:
        settings = config.load(arguments, os.environ)
        logging.basicConfig(
            level=settings.log_level.upper(), format="%(asctime)s %(levelname).1s %(message)s", stream=sys.stderr
        )
        _quieten()
        store = _open_store(settings)
        has_own_token = settings.token is None and not settings.no_token
        if has_own_token:
            settings = dataclasses.replace(settings, token=own_token(store))
        if settings.recordings_folder is None and not settings.is_reachable:
            folder = _data_folder(settings) / "recordings"
            settings = dataclasses.replace(settings, recordings_folder=str(folder))
        if settings.clips_folder is None and store.path is not None:
            settings = dataclasses.replace(settings, clips_folder=str(store.path.parent / "clips"))
        listener = app.listen(settings.host, settings.port)
        notice = app.Notice(sys.stdout, folder_of(os.environ, _data_folder(settings)), shows_token=has_own_token)
        asyncio.run(app.serve(settings, _engine(settings), listener, notice, store))
    except (
        *(config.ConfigError, app.PortInUse, app.ServerDied, EncoderUnusable),
        *(ModelError, RunFileError, StoreError),
    ) as error:
        print(f"sceneshift: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"sceneshift: cannot listen on {settings.host}: {error.strerror}", file=sys.stderr)
        return 1
    finally:
        _give_up_unwritten()
    return 0


def _data_folder(settings: Settings) -> Path:
    from server.config import default_data_folder  # noqa: PLC0415

    return Path(settings.data_folder) if settings.data_folder is not None else default_data_folder(os.environ)


def _open_store(settings: Settings) -> Store:
    """Raises `StoreError` for a folder that the operator named. Without a home, the store lives in memory."""
    from server.store.store import FILE_NAME, Store, StoreError  # noqa: PLC0415

    store = Store(_data_folder(settings) / FILE_NAME)
    try:
        store.open()
    except StoreError as error:
        if settings.data_folder is not None:
            raise
        logging.getLogger(__name__).warning("- ! keys, usage and audit log end with this process: %s", error)
        store = Store()
        store.open()
    return store


def _generate(arguments: Sequence[str]) -> int:
    from server.generate import cli  # noqa: PLC0415

    return cli.main(arguments, lambda settings: _engine(settings, keeps_spare=False))


def _give_up_unwritten() -> None:
    """Drops unwritten output (a closed pipe, a full disk). Else the interpreter's end fails again, with status 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


def _engine(settings: Settings, *, keeps_spare: bool = True) -> Engine:
    """Raises `ModelError`. `keeps_spare`: a second process stands ready, for shows that must not wait."""
    if settings.engine == "synthetic":
        from engine.synthetic import SyntheticEngine  # noqa: PLC0415

        return SyntheticEngine()
    from engine.clip_cache import caching_engine  # noqa: PLC0415
    from engine.config import NICENESS, EngineSettings  # noqa: PLC0415
    from engine.loading import checkpoint  # noqa: PLC0415
    from engine.loading.checkpoint import fingerprint  # noqa: PLC0415
    from engine.process.supervisor import EngineProcess  # noqa: PLC0415

    load = checkpoint.fetch(_load_settings(settings))
    engine = EngineProcess(
        EngineSettings(
            load=load,
            startup_timeout_s=checkpoint.startup_timeout_s(load),
            niceness=NICENESS[settings.engine_priority],
            keep_spare=keeps_spare,
        )
    )
    if not settings.cache_memory and not settings.cache_disk:
        return engine
    folder = Path(settings.cache_folder) if settings.cache_folder else caching_engine.default_folder(os.environ)
    cache = caching_engine.CacheSettings(settings.cache_memory, settings.cache_disk, folder)
    return caching_engine.CachingEngine(engine, cache, fingerprint=fingerprint(load))


def _load_settings(settings: Settings) -> LoadSettings:
    from engine.config import LoadSettings, default_model  # noqa: PLC0415

    width, height = settings.size or (None, None)
    return LoadSettings(
        model=settings.model or default_model(),
        width=width,
        height=height,
        num_frames=settings.frames,
        device=settings.device,
        gpu_memory_bytes=settings.gpu_memory,
        decoder=settings.decoder,
        lora_folder=settings.lora_folder,
        compiles=not settings.no_compile,
        allows_pickles=settings.allow_pickles,
    )


def _quieten() -> None:
    """Lets libraries that log each packet or each candidate log warnings only."""
    for name in ("aioice", "aiortc", "aiohttp", "libav"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns of a client that offers only subprotocols that we do not speak. One of them may hold a token.
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(main())
