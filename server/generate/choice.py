"""Chooses what makes the clips: the named server, else a server that runs here, else an engine of our own.

Imports makers only when they are needed, so that the command's first line does not wait for them.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from server import config, run_file

if TYPE_CHECKING:
    from engine.api import Engine
    from server.clock import Clock
    from server.generate.maker import Maker
    from server.generate.wanted import Wanted
    from server.generate.work_folder import WorkFolder

EngineMaker = Callable[[config.Settings], "Engine"]
# Where our names differ from those of `serve`.
_ENGINE_FLAGS = {
    "config": "--config",
    "engine": "--engine",
    "model": "--model",
    "model_size": "--size",
    "frames": "--frames",
    "device": "--device",
    "gpu_memory": "--gpu-memory",
    "decoder": "--decoder",
    "lora_folder": "--lora-folder",
    "engine_priority": "--engine-priority",
}
_ENGINE_SWITCHES = {"no_compile": "--no-compile", "allow_pickles": "--allow-pickles"}
# With fewer clips we do not compile: it runs beside them, and they end before it pays.
_COMPILES_FROM = 20


def engine_flags(options: argparse.Namespace) -> list[str]:
    """The flags of the engine that were given, as `serve` takes them."""
    given = [
        text
        for name, flag in _ENGINE_FLAGS.items()
        if (value := getattr(options, name)) is not None
        for text in (flag, value)
    ]
    return given + [flag for name, flag in _ENGINE_SWITCHES.items() if getattr(options, name) is not None]


class Makers:
    def __init__(
        self,
        options: argparse.Namespace,
        make_engine: EngineMaker,
        work: WorkFolder,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self._options = options
        self._make_engine = make_engine
        self._work = work
        self._clock = clock
        self._say = say

    async def open(self, wanted: Sequence[Wanted]) -> Maker:
        """The first that can make them. Raises `MakerError` of the last; `ConfigError`."""
        from server.generate.maker import MakerError  # noqa: PLC0415

        makers = iter(self._makers(wanted))
        maker = next(makers)
        while True:
            try:
                self._say(await maker.open())
                return maker
            except MakerError as error:
                await maker.close()
                if (following := next(makers, None)) is None:
                    raise
                self._say(str(error))
                maker = following
            except BaseException:
                await maker.close()
                raise

    def _makers(self, wanted: Sequence[Wanted]) -> Iterator[Maker]:
        options = self._options
        if options.server is not None:
            yield self._remote(*_address(options))
            return
        if not options.no_server and not engine_flags(options):
            for running in run_file.all_running(os.environ):
                yield self._remote(running.url, running.token)
        yield self._own(wanted)

    def _remote(self, url: str, token: str | None) -> Maker:
        from server.generate.remote import RemoteMaker  # noqa: PLC0415

        return RemoteMaker(url, token, self._work, clock=self._clock, say=self._say)

    def _own(self, wanted: Sequence[Wanted]) -> Maker:
        from server.generate.own_engine import OwnEngine  # noqa: PLC0415

        settings = config.load(engine_flags(self._options), os.environ)
        compiles = not settings.no_compile and len(wanted) >= _COMPILES_FROM
        # No cache of clips: each clip is in a file of its own.
        settings = dataclasses.replace(settings, no_compile=not compiles, cache_memory=0, cache_disk=0)
        keys = {self._work.key(one) for one in wanted}
        return OwnEngine(lambda: self._make_engine(settings), self._work, keys, clock=self._clock, say=self._say)


def _address(options: argparse.Namespace) -> tuple[str, str | None]:
    """The server's address and its token: from the flag, the address's fragment, the environment, or its run file."""
    parts = urlsplit(options.server if "://" in options.server else f"http://{options.server}")
    url = f"{parts.scheme}://{parts.netloc}"
    in_link = parse_qs(parts.fragment).get("token", [None])[0]
    running = run_file.all_running(os.environ)
    in_file = next((one.token for one in running if one.url.rstrip("/") == url), None)
    return url, options.token or in_link or os.environ.get("SCENESHIFT_TOKEN") or in_file
