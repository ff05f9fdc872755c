"""The `sceneshift` command: serve, generate, bench, doctor, token.

The entry point: reads arguments and environment once, puts an engine behind the server, and imports what a subcommand
needs only when it is called. Nothing here imports torch; the engine process does.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import logging
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.api import Engine
    from engine.config import LoadSettings
    from server.config import Settings

_USAGE = """\
usage: sceneshift COMMAND [OPTIONS]

  serve      serve stages: prompts in over WebSocket, live video out over WebRTC
  generate   one prompt to one file, without a server
  bench      measure: what a viewer sees, how faults are survived
  doctor     what this machine has and lacks
  token      make an access token

Each command explains itself with --help.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; gives the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    commands: dict[str, Callable[[Sequence[str]], int]] = {
        "serve": _serve,
        "generate": _elsewhere("engine.generate_cli"),
        "bench": _elsewhere("bench.__main__"),
        "doctor": _doctor,
        "token": _token,
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
    from server import app, auth, config  # noqa: PLC0415

    try:
        settings = config.load(arguments, os.environ)
        needs_token = settings.token is None and not settings.is_loopback
        if needs_token:
            settings = dataclasses.replace(settings, token=auth.new_token())
        logging.basicConfig(
            level=settings.log_level.upper(), format="%(asctime)s %(levelname).1s %(message)s", stream=sys.stderr
        )
        _quieten()
        listener = app.listen(settings.host, settings.port)
        asyncio.run(app.serve(settings, _engine(settings), listener, out=sys.stdout, shows_token=needs_token))
    except (config.ConfigError, app.PortInUse, ModelError) as error:
        print(f"sceneshift: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"sceneshift: cannot listen on {settings.host}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _engine(settings: Settings) -> Engine:
    if settings.engine == "synthetic":
        from engine.synthetic import SyntheticEngine  # noqa: PLC0415

        return SyntheticEngine()
    from engine import checkpoint, clip_cache  # noqa: PLC0415
    from engine.config import EngineSettings  # noqa: PLC0415
    from engine.supervisor import EngineProcess  # noqa: PLC0415

    load = checkpoint.fetch(_load_settings(settings))
    engine = EngineProcess(EngineSettings(load=load))
    if not settings.cache_memory and not settings.cache_disk:
        return engine
    folder = Path(settings.cache_folder) if settings.cache_folder else clip_cache.default_folder(os.environ)
    cache = clip_cache.CacheSettings(settings.cache_memory, settings.cache_disk, folder)
    return clip_cache.CachingEngine(engine, cache, fingerprint=clip_cache.fingerprint(load))


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
    """Libraries that log each packet or each candidate say only what is wrong."""
    for name in ("aioice", "aiortc", "aiohttp", "libav"):
        logging.getLogger(name).setLevel(logging.WARNING)


# --- token, doctor ------------------------------------------------------------------------------------------------


def _token(arguments: Sequence[str]) -> int:
    from server.auth import new_token  # noqa: PLC0415

    if arguments:
        print("usage: sceneshift token\n\nPrints a fresh access token for --token or SCENESHIFT_TOKEN.")
        return 0 if arguments[0] in ("-h", "--help") else 2
    print(new_token())
    return 0


def _doctor(arguments: Sequence[str]) -> int:
    """A table of what is there; 1 if something is missing that `serve` needs."""
    if arguments:
        print("usage: sceneshift doctor\n\nShows what this machine has and lacks.")
        return 0 if arguments[0] in ("-h", "--help") else 2
    is_complete = True
    for name, found, is_needed in _findings():
        is_missing = found is None
        is_complete &= not (is_missing and is_needed)
        mark = "ok" if not is_missing else ("MISSING" if is_needed else "absent")
        print(f"{name:<18} {mark:<8} {found or ''}".rstrip())
    return 0 if is_complete else 1


def _findings() -> Iterator[tuple[str, str | None, bool]]:
    """(what, what was found or None, whether `serve` needs it)."""
    yield "python", platform.python_version() if sys.version_info >= (3, 11) else None, True
    yield "torch", _torch_build(), True
    yield "cpu cores", str(os.cpu_count()), True
    yield "h264 encoder", _h264_encoder(), True
    yield "port 8080", _port_state(8080), False
    yield "chromium", next(filter(None, map(shutil.which, _BROWSERS)), None), False
    yield "model weights", _weights(), True


_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def _torch_build() -> str | None:
    """The installed build, read from its metadata: importing torch takes seconds."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("torch")
    except PackageNotFoundError:
        return None


def _h264_encoder() -> str | None:
    if find_spec("av") is None:
        return None
    import av  # noqa: PLC0415

    return next((name for name in ("libx264", "libopenh264") if name in av.codecs_available), None)


def _port_state(port: int) -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return "in use; give another with --port"
    return "free"


def _weights() -> str | None:
    from engine.config import EMBEDDED_FOLDER  # noqa: PLC0415

    files = list(EMBEDDED_FOLDER.rglob("*.safetensors"))
    if not files:
        return None
    return f"embedded, {sum(path.stat().st_size for path in files) / 2**20:.1f} MiB"


if __name__ == "__main__":
    sys.exit(main())
