"""`sceneshift generate`: one prompt to one file. Uses the same engine process as the server, without a server."""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
from pathlib import Path
from typing import TextIO, cast

import av
import numpy as np
from PIL import Image

from engine.api import (
    EngineLost,
    EngineReady,
    EngineStopped,
    Frames,
    FramesReady,
    Generate,
    GenerationFailed,
    GenerationFinished,
    GenerationStarted,
    ModelDescription,
    ModelError,
    PreviewReady,
    Quality,
    StepFinished,
)
from engine.config import PROFILES, EngineSettings, LoadSettings, default_model
from engine.loading import checkpoint
from engine.process.supervisor import EngineProcess

_VIDEO_CODECS = {
    ".mp4": ("libx264", {"crf": "16", "preset": "medium"}),
    ".webm": ("libvpx-vp9", {"crf": "24", "b": "0"}),
}
_ENDINGS = (*_VIDEO_CODECS, ".gif", ".png")
_BAR_WIDTH = 24


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0 written, 1 the engine failed, 2 wrong arguments (by argparse)."""
    arguments = _parse(argv)
    try:
        made = asyncio.run(_generate(arguments, Progress(sys.stderr)))
    except ModelError as error:
        print(f"sceneshift generate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if isinstance(made, str):
        print(f"sceneshift generate: {made}", file=sys.stderr)
        return 1
    frames, model = made
    write(arguments.output, frames, model, arguments.size)
    print(arguments.output)
    return 0


class Progress:
    """One line that fills; on a terminal it is rewritten, elsewhere each state is a line of its own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()

    def show(self, text: str, done: float) -> None:
        filled = round(done * _BAR_WIDTH)
        line = f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {text}"
        self._stream.write(f"\r{line:<78}" if self._is_terminal else f"{line}\n")
        self._stream.flush()

    def close(self) -> None:
        if self._is_terminal:
            self._stream.write("\n")


async def _generate(arguments: argparse.Namespace, progress: Progress) -> tuple[Frames, ModelDescription] | str:
    """The clip's frames (for a .png the last preview's) and their model, or what went wrong."""
    width, height = arguments.model_size or (None, None)
    load = LoadSettings(
        model=arguments.model,
        width=width,
        height=height,
        num_frames=arguments.frames,
        lora_folder=arguments.lora_folder,
        compiles=False,  # compiling takes longer than one clip
    )
    load = await asyncio.to_thread(checkpoint.fetch, load)
    engine = EngineProcess(
        EngineSettings(load=load, startup_timeout_s=checkpoint.startup_timeout_s(load), keep_spare=False, niceness=0)
    )
    progress.show("loading the model", 0.0)
    await engine.open()
    try:
        engine.send(Generate("cli", arguments.prompt, arguments.quality, arguments.seed, lora=arguments.lora))
        return await _collect(engine, arguments.output.suffix.lower() == ".png", progress)
    finally:
        await engine.close()
        progress.close()


async def _collect(
    engine: EngineProcess, wants_preview: bool, progress: Progress
) -> tuple[Frames, ModelDescription] | str:
    chunks: list[Frames] = []
    preview: Frames | None = None
    async for event in engine.events():
        match event:
            case EngineReady(model=model):
                progress.show(f"{model.name} is warm", 0.1)
            case GenerationStarted(not_understood=words):
                chunks.clear()
                if words:
                    progress.show("not understood: " + ", ".join(words), 0.1)
            case StepFinished(step_index=step_index, num_steps=num_steps):
                progress.show(
                    f"denoising step {step_index + 1} of {num_steps}", 0.1 + 0.7 * (step_index + 1) / num_steps
                )
            case PreviewReady(frames=preview):
                pass
            case FramesReady(first_index=first_index, frames=frames):
                chunks.append(frames)
                assert engine.model is not None
                done = (first_index + len(frames)) / engine.model.num_frames
                progress.show(f"decoded {first_index + len(frames)} frames", 0.8 + 0.2 * done)
            case GenerationFinished():
                assert engine.model is not None
                whole = Frames(np.concatenate([chunk.planes for chunk in chunks]))
                # Only a preview of the clip's own size is good enough for a still.
                if wants_preview and preview is not None and preview.width == whole.width:
                    return preview, engine.model
                return whole, engine.model
            case GenerationFailed(message=message) | EngineStopped(detail=message):
                return message
            case EngineLost(reason=reason, detail=detail):
                progress.show(f"engine {reason} ({detail}), starting again", 0.0)
            case _:
                pass
    return "the engine closed"


def write(path: Path, frames: Frames, model: ModelDescription, size: tuple[int, int]) -> None:
    """Writes `frames` scaled to `size` (width, height); the ending of `path` chooses the format."""
    ending = path.suffix.lower()
    pictures = [_scaled(picture, size) for picture in frames.planes]
    if ending == ".png":
        _image(pictures[-1]).save(path)
        return
    if model.closes_on_itself and len(pictures) > 1:
        pictures.pop(0)  # the same moment as the last: a player that loops the file would show it twice
    if ending == ".gif":
        _write_gif(path, [_image(picture) for picture in pictures], model.frame_rate)
        return
    codec, options = _VIDEO_CODECS[ending]
    with av.open(str(path), "w") as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=model.frame_rate, options=options))
        stream.width, stream.height, stream.pix_fmt = size[0], size[1], "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _scaled(picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], size: tuple[int, int]) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="yuv420p")
    return frame.reformat(width=size[0], height=size[1], interpolation="LANCZOS")


def _image(picture: av.VideoFrame) -> Image.Image:
    return Image.fromarray(picture.to_ndarray(format="rgb24"))


def _write_gif(path: Path, pictures: list[Image.Image], frame_rate: int) -> None:
    first, *rest = (picture.quantize(colors=128, dither=Image.Dither.NONE) for picture in pictures)
    first.save(path, save_all=True, append_images=rest, duration=round(1000 / frame_rate), loop=0)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sceneshift generate", description="Make one clip from one prompt.")
    parser.add_argument("prompt", help='what to show, in English or Chinese: "a red sailboat at sunset", "夜晚的雪山"')
    parser.add_argument("-o", "--output", type=_output, required=True, help="clip.mp4, .webm, .gif, or .png (a still)")
    parser.add_argument("--quality", type=Quality, choices=list(Quality), default=Quality.FAST)
    parser.add_argument("--seed", type=int, default=None, help="same prompt and seed, same clip (default: random)")
    parser.add_argument(
        "--model",
        default=default_model(),
        help=f"one of {', '.join(sorted(PROFILES))}, a folder, or a hub id (default here: %(default)s)",
    )
    parser.add_argument("--size", type=_size, default=(832, 480), metavar="WxH", help="of the file; default 832x480")
    parser.add_argument("--model-size", type=_size, metavar="WxH", help="that the model makes (default: its profile's)")
    parser.add_argument("--frames", type=int, help="that the model makes, 4n + 1 (default: its profile's)")
    parser.add_argument("--lora", metavar="NAME", help="a LoRA file's name without its ending")
    parser.add_argument("--lora-folder", metavar="FOLDER", help="where the LoRA files are")
    arguments = parser.parse_args(argv)
    if not arguments.prompt.strip():
        parser.error("the prompt is empty")
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(2**31)
    return arguments


def _output(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in _ENDINGS:
        raise argparse.ArgumentTypeError(f"{text!r} must end in one of {', '.join(_ENDINGS)}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder {str(path.parent)!r} does not exist")
    return path


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{2,4})x(\d{2,4})", text)
    if not found or int(found[1]) % 2 or int(found[2]) % 2:
        raise argparse.ArgumentTypeError(f"{text!r} must be like 832x480, both even")
    return int(found[1]), int(found[2])
