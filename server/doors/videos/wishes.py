"""Reads a wish for a clip from JSON or a form, and says what cannot be done by name. Pure.

OpenAI's clients send forms, in which numbers are texts. We refuse the fields of other servers that we know and do not
have (`unsupported_parameter`). Nothing is accepted and ignored.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from PIL import Image, UnidentifiedImageError

from engine.api import ModelDescription, Quality
from server.clips.job import Spec
from server.protocol.decoding import is_text
from server.protocol.errors import Refused
from server.protocol.fields import Prompt

REFERENCE = "input_reference"
# What clients of OpenAI send by default; the answer names the model that makes the clip.
MODEL_ALIASES = ("sora-2", "sora-2-pro", "default")
DEFAULT_SECONDS = 4.0
MIN_SECONDS, MAX_SECONDS = 0.5, 20.0
MIN_SIDE, MAX_SIDE = 64, 1920
MAX_PICTURE_PIXELS = 4096 * 4096
MAX_REFERENCE_SIDE = 1280
MAX_METADATA = 16
USER_RULE = "`user` has 1 to 64 characters"
_SIZE = re.compile(r"(\d{2,4})x(\d{2,4})")
_PICTURES = ("JPEG", "PNG", "WEBP")
# Of SGLang, vLLM-Omni, FastVideo and OpenAI's newer calls.
UNSUPPORTED = (
    *("negative_prompt", "guidance_scale", "guidance_scale_2", "fps", "num_frames", "n", "enable_teacache"),
    *("enable_frame_interpolation", "frame_interpolation_exp", "enable_upscaling", "upscaling_scale"),
    *("enhance_prompt", "extra_params", "extra_body", "characters", "generate_audio", "output_format", "post"),
)


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of `POST /v1/videos`, but for `input_reference`, which is a picture."""

    prompt: str
    model: str | None = None
    seconds: float | None = None
    size: str | None = None
    width: int | None = None
    height: int | None = None
    seed: int | None = None
    quality: str | None = None
    num_inference_steps: int | None = None
    lora: str | None = None
    user: str | None = None
    metadata: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Ordered:
    spec: Spec
    user: str | None
    metadata: dict[str, str]
    digest: str  # of the wish, for retries without a key


def read(fields: Mapping[str, Any], model: ModelDescription) -> Ordered:
    """Raises `Refused`, with the field's name."""
    wish = _wish(fields)
    _check_model(wish.model, model)
    if (fault := Prompt().fault("prompt", wish.prompt)) is not None:
        raise Refused(*fault, param="prompt")
    width, height = _size(wish, model)
    if wish.lora is not None and wish.lora not in model.loras:
        raise Refused("not_supported", f"there is no LoRA `{wish.lora[:64]}` here", param="lora")
    reference = _reference(fields.get(REFERENCE), model)
    spec = Spec(
        prompt=wish.prompt,
        seconds=_seconds(wish.seconds),
        width=width,
        height=height,
        seed=_seed(wish.seed),
        quality=_quality(wish, model),
        lora=wish.lora,
        reference=reference,
    )
    told = {name: value for name, value in fields.items() if name != REFERENCE}
    digest = hashlib.blake2b(msgspec.json.encode(told, order="deterministic") + (reference or b""), digest_size=16)
    return Ordered(spec, wish.user, wish.metadata, digest.hexdigest())


def _wish(fields: Mapping[str, Any]) -> Wish:
    for name in fields:
        if name in UNSUPPORTED:
            raise Refused("unsupported_parameter", f"this server does not have `{name[:64]}`", param=name[:64])
        if name not in (*Wish.__struct_fields__, REFERENCE):
            raise Refused("unknown_field", f"there is no field `{name[:64]}`", param=name[:64])
        if isinstance(fields[name], str) and not is_text(fields[name]):
            raise Refused("invalid_text", f"`{name}` holds a lone surrogate, which is not Unicode text", param=name)
    if "prompt" not in fields:
        raise Refused("missing_field", "the field `prompt` is missing", param="prompt")
    try:
        # Not strict: a form has texts only.
        told = {name: value for name, value in fields.items() if name != REFERENCE}
        wish = msgspec.convert(told, Wish, strict=False)
    except msgspec.ValidationError as error:
        found = re.search(r"\$\.(\w+)", str(error))
        raise Refused("wrong_type", str(error), param=found[1] if found else None) from None
    if len(wish.metadata) > MAX_METADATA or any(
        len(name) > 64 or len(text) > 512 for name, text in wish.metadata.items()
    ):
        reason = f"`metadata` has {MAX_METADATA} entries at most, names of 64 and texts of 512 characters"
        raise Refused("invalid_value", reason, param="metadata")
    if wish.user is not None and not is_user(wish.user):
        raise Refused("invalid_value", USER_RULE, param="user")
    return wish


def is_user(name: str) -> bool:
    return 1 <= len(name) <= 64 and is_text(name)


def _check_model(name: str | None, model: ModelDescription) -> None:
    if name is not None and name not in (model.name, *MODEL_ALIASES):
        raise Refused("unknown_model", f"this server has the model `{model.name}`", param="model")


def _seconds(seconds: float | None) -> float:
    if seconds is None:
        return DEFAULT_SECONDS
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise Refused("invalid_value", f"`seconds` must lie in {MIN_SECONDS}..{MAX_SECONDS:.0f}", param="seconds")
    return seconds


def _size(wish: Wish, model: ModelDescription) -> tuple[int, int]:
    """The wanted size, or twice the model's own if that is small."""
    param, width, height = "size", wish.width, wish.height
    if wish.size is not None:
        found = _SIZE.fullmatch(wish.size)
        if found is None or (width, height) != (None, None):
            raise Refused(
                "invalid_value", "`size` is a text like `1280x720`, without `width` and `height`", param=param
            )
        width, height = int(found[1]), int(found[2])
    elif (width, height) != (None, None):
        param = "width" if width is None else "height"
        if width is None or height is None:
            raise Refused("missing_field", f"the field `{param}` is missing", param=param)
    else:
        scale = 2 if model.width < 640 else 1
        return model.width * scale, model.height * scale
    for side in (width, height):
        if side % 2 or not MIN_SIDE <= side <= MAX_SIDE:
            raise Refused("invalid_value", f"both sides are even and lie in {MIN_SIDE}..{MAX_SIDE}", param=param)
    return width, height


def _seed(seed: int | None) -> int:
    if seed is None:
        return secrets.randbelow(2**31)
    if not 0 <= seed < 2**63:
        raise Refused("invalid_value", "`seed` must lie in 0..2^63-1", param="seed")
    return seed


def _quality(wish: Wish, model: ModelDescription) -> Quality:
    """`num_inference_steps` chooses the quality whose number of steps is nearest."""
    if wish.num_inference_steps is not None:
        wanted = wish.num_inference_steps
        if wish.quality is not None or not 1 <= wanted <= 1000:
            reason = "`num_inference_steps` lies in 1..1000, without `quality`"
            raise Refused("invalid_value", reason, param="num_inference_steps")
        return min(model.num_steps, key=lambda quality: abs(model.num_steps[quality] - wanted))
    try:
        return Quality(wish.quality or Quality.FAST)
    except ValueError:
        choices = ", ".join(Quality)
        raise Refused("invalid_value", f"`quality` is one of {choices}", param="quality") from None


def _reference(given: Any, model: ModelDescription) -> bytes | None:
    """The picture as a JPEG of ours: from a file, or a `data:` address. Raises `Refused`. Nothing is fetched."""
    if isinstance(given, dict):
        given = given.get("image_url")
    if given is None:
        return None
    if not isinstance(given, bytes | str):
        raise Refused("wrong_type", "`input_reference` is a file or a text", param=REFERENCE)
    if not model.can_start_from_frame:
        raise Refused("not_supported", f"`{model.name}` cannot start from a picture", param=REFERENCE)
    if isinstance(given, str):
        kind, _, data = given.partition(";base64,")
        if not kind.startswith("data:image/"):
            reason = "`input_reference` is a file, or a `data:image/…;base64,` address; others are not fetched"
            raise Refused("invalid_value", reason, param=REFERENCE)
        try:
            given = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            raise Refused("invalid_value", "`input_reference` is no base64", param=REFERENCE) from None
    try:
        with Image.open(io.BytesIO(given), formats=_PICTURES) as picture:
            if picture.width * picture.height > MAX_PICTURE_PIXELS:  # read from the head, before anything is decoded
                raise ValueError("too large")
            picture.draft("RGB", (MAX_REFERENCE_SIDE, MAX_REFERENCE_SIDE))
            picture.thumbnail((MAX_REFERENCE_SIDE, MAX_REFERENCE_SIDE))
            out = io.BytesIO()
            picture.convert("RGB").save(out, "JPEG", quality=95)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        reason = "`input_reference` is a JPEG, PNG or WebP of 16 megapixels at most"
        raise Refused("invalid_value", reason, param=REFERENCE) from None
    return out.getvalue()
