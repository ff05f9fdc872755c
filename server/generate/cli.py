"""`sceneshift generate`: prompts to files. Uses the server that runs here, else an engine of its own.

The first line is written before anything large is imported. SIGINT and SIGTERM end a run in order, and the same command
goes on. A second one ends it at once. Runs in the entry point's thread.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import signal
import sys
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from server import config
from server.generate import choice
from server.generate.choice import EngineMaker

if TYPE_CHECKING:
    from server.generate.run import Run
    from server.generate.wanted import Fault, Wanted

# As in `video_file.py`, whose imports take too long for the first line.
ENDINGS = (".mp4", ".webm", ".gif", ".png")
FAILED, WRONG_ARGUMENTS, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str], make_engine: EngineMaker) -> int:
    """0 all is there, 1 something failed, 2 wrong arguments, 130 interrupted."""
    options = _parse(arguments)
    print("sceneshift generate: starting", file=sys.stderr, flush=True)
    try:
        return asyncio.run(_generate(options, make_engine))
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:  # of standard output, which may be a closed pipe
        print(f"sceneshift generate: {error}", file=sys.stderr)
        return FAILED


async def _generate(options: argparse.Namespace, make_engine: EngineMaker) -> int:
    from server.clock import MonotonicClock  # noqa: PLC0415
    from server.generate.maker import MakerError  # noqa: PLC0415
    from server.generate.progress import Progress, ProgressHandler  # noqa: PLC0415
    from server.generate.run import Run  # noqa: PLC0415
    from server.generate.wanted import ListError  # noqa: PLC0415
    from server.generate.work_folder import WorkFolder, WorkFolderError  # noqa: PLC0415
    from server.store.store import StoreError  # noqa: PLC0415

    clock = MonotonicClock()
    progress = Progress(sys.stderr, clock.now)
    logs = ProgressHandler(progress)
    logging.getLogger().addHandler(logs)
    work = WorkFolder(*options.output)
    run = Run(work, progress, clock, sys.stdout, writes_json=options.json)
    wanted: list[Wanted] = []
    number: int | None = None
    try:
        wanted, faults = _listed(options)
        work.open()
        run.tell_faults(faults)
        rest = run.tell_earlier(wanted)
        makers = choice.Makers(options, make_engine, work, clock, progress.say)
        number = await _until_signal(_made(run, rest, makers)) if rest else None
    except (ListError, config.ConfigError) as error:
        progress.say(f"sceneshift generate: {error}")
        return WRONG_ARGUMENTS
    except (WorkFolderError, MakerError, StoreError) as error:
        progress.say(f"sceneshift generate: {error}")
        run.num_failed += 1
    finally:
        logging.getLogger().removeHandler(logs)
        work.close(is_complete=bool(wanted) and run.num_there == len(wanted))
    if run.num_there < len(wanted):
        progress.say(f"{run.num_there} of {len(wanted)} clips are there; the same command makes the rest")
    return 128 + number if number is not None else FAILED if run.num_failed else 0


async def _made(run: Run, wanted: Sequence[Wanted], makers: choice.Makers) -> None:
    maker = await makers.open(wanted)
    try:
        await run.make(wanted, maker)
    finally:
        await maker.close()


def _listed(options: argparse.Namespace) -> tuple[list[Wanted], list[Fault]]:
    """Raises `ListError`: also for a wrong argument, because then nothing can be made."""
    from server.generate import wanted as lists  # noqa: PLC0415
    from server.protocol.errors import Refused  # noqa: PLC0415

    given = {name: getattr(options, name) for name in ("size", "seconds", "seed", "quality", "lora")}
    defaults = {name: value for name, value in given.items() if value is not None}
    try:
        lists.check({"prompt": "any", **defaults})
    except Refused as refused:
        raise lists.ListError(refused.detail.message) from None
    rows = lists.of_prompts(options.prompts)
    folder = Path()
    if options.list is not None:
        rows += lists.of_file(options.list)
        folder = options.list.parent
    output, file_name = options.output
    if file_name is not None and len(rows) > 1:
        raise lists.ListError(
            f"{len(rows)} clips do not fit into one file; name a folder with -o, as {output / 'clips'}/"
        )
    wanted, faults = lists.collect(
        rows, defaults, folder=folder, file_name=file_name, engine=" ".join(choice.engine_flags(options))
    )
    if faults and options.list is None:
        raise lists.ListError(faults[0].message)
    if not rows:
        raise lists.ListError("the list has no prompts")
    return wanted, faults


async def _until_signal(work: Awaitable[None]) -> int | None:
    """Runs `work`, and cancels it at the first signal. Gives the signal's number. The next one ends the process."""
    loop, task, told = asyncio.get_running_loop(), asyncio.ensure_future(work), list[int]()
    signals = (signal.SIGINT, signal.SIGTERM)

    def forget() -> None:
        for number in signals:
            loop.remove_signal_handler(number)

    def stop(number: int) -> None:
        forget()
        told.append(number)
        print("\nstopping; what is being written is finished first", file=sys.stderr, flush=True)
        task.cancel()

    for number in signals:
        loop.add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        if not told:
            raise
    finally:
        forget()
    return told[0] if told else None


# --- arguments -------------------------------------------------------------------------------------------------------


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sceneshift generate",
        description="Make clips from prompts, by the server that runs here, else by an engine of its own.",
        epilog="A run that was interrupted or killed goes on with the same command.",
    )
    parser.add_argument(
        "prompts", metavar="PROMPT", nargs="*", help='in English or Chinese: "a red sailboat at sunset", "夜晚的雪山"'
    )
    parser.add_argument(
        "--from",
        dest="list",
        type=Path,
        metavar="FILE",
        help="prompts, one a line; or a .csv with the columns prompt, output, seconds, size, seed, quality, lora, "
        "input_reference (a picture's file)",
    )
    parser.add_argument(
        "-o", "--output", type=_output, required=True, help="clip.mp4, .webm, .gif or .png (a still); or a folder"
    )
    parser.add_argument("--quality", help="fast (default) or fine")
    parser.add_argument("--seed", type=int, help="same prompt and seed, same clip (default: random)")
    parser.add_argument("--seconds", type=float, help="of each clip (default: the model's own length)")
    parser.add_argument("--size", type=_size, default="832x480", metavar="WxH", help="of the file; default %(default)s")
    parser.add_argument("--lora", metavar="NAME", help="a LoRA file's name without its ending")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each clip, on standard output")
    servers = parser.add_argument_group("server")
    servers.add_argument("--server", metavar="URL", help="sends the clips there (default: the one that runs here)")
    servers.add_argument("--token", help="of the server; better given as SCENESHIFT_TOKEN, where `ps` cannot see it")
    servers.add_argument("--no-server", action="store_true", help="always start an engine")
    engine = parser.add_argument_group("engine", "Any of these starts an engine, also beside a server.")
    engine.add_argument("--config", metavar="FILE", help="a TOML file with settings of `serve`")
    config.add_model_flags(engine, size_flag="--model-size")
    options = parser.parse_args(arguments)
    if not options.prompts and options.list is None:
        parser.error("give prompts, or a file of them with --from")
    if options.server is not None and (options.no_server or choice.engine_flags(options)):
        parser.error("--server has its own engine; leave out --no-server and the engine's flags")
    return options


def _output(text: str) -> tuple[Path, str | None]:
    """The folder, and the file in it if only one is wanted."""
    path = Path(text)
    if text.endswith("/") or path.is_dir() or not path.suffix:
        return path, None
    if path.suffix.lower() not in ENDINGS:
        raise argparse.ArgumentTypeError(f"{text!r} must end in one of {', '.join(ENDINGS)}, or in / for a folder")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder {str(path.parent)!r} does not exist")
    return path.parent, path.name


def _size(text: str) -> str:
    found = re.fullmatch(r"(\d{2,4})x(\d{2,4})", text)
    if not found or int(found[1]) % 2 or int(found[2]) % 2:
        raise argparse.ArgumentTypeError(f"{text!r} must be like 832x480, both even")
    return text
