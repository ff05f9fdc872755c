"""What a key, a client secret or an address may take: one structure for the three. Pure.

The store keeps it with a key, and a client secret carries it as the claim `limits`. `server.accounts` holds to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

_Seconds = Annotated[float, Meta(ge=0, le=10**9)]
_Count = Annotated[int, Meta(ge=0, le=10**6)]
_Rate = Annotated[float, Meta(gt=0, le=10**6)]
_Amount = Annotated[int, Meta(ge=0, le=2**53)]


class Limits(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """None: no limit of its own. The limits of the whole server hold beside these."""

    engine_s: _Seconds | None = None  # of a key or an address: a day, in UTC; of a client secret: in its life
    sessions: _Count | None = None  # at once
    viewers: _Count | None = None  # at once, on all stages
    connects_per_min: _Rate | None = None  # new connections, of controllers and viewers
    messages_per_s: _Rate | None = None
    prompts_per_min: _Rate | None = None
    stored_bytes: _Amount | None = None  # of recordings; of a key only
    pixels_per_s: _Amount | None = None  # width x height x rate of its stages, together
    session_s: Annotated[float, Meta(gt=0, le=10**9)] | None = None  # the length of a session


NONE = Limits()


def parsed(pairs: Iterable[str]) -> Limits:
    """Of texts `NAME=VALUE`. Raises `ValueError`, with words for the operator."""
    values: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or name not in Limits.__struct_fields__:
            raise ValueError(f"expected NAME=VALUE, with a name of {', '.join(Limits.__struct_fields__)}; got {pair!r}")
        values[name] = value
    try:
        return msgspec.convert(values, Limits, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"a limit cannot be used: {error}") from None


def written(limits: Limits) -> str:
    """`NAME=VALUE` for a person, with spaces between."""
    values = msgspec.to_builtins(limits).items()
    return " ".join(f"{name}={int(value) if value == int(value) else value}" for name, value in values)
