"""Decodes the server's frames into typed events, with the server's own definitions. Pure; `conversation.py` calls it.

A newer server causes no error: unknown events and fields are ignored, and new codes and names are accepted.
"""

from __future__ import annotations

import json
import logging
from functools import reduce
from operator import or_
from types import UnionType
from typing import Any, get_args, get_type_hints

import msgspec

from sceneshift.protocol.messages import ServerMessage

_log = logging.getLogger("sceneshift")

# Looked up, not listed, so that a new event of the protocol is known here at once.
KINDS: dict[str, type[ServerMessage]] = {
    str(kind.__struct_config__.tag): kind for kind in ServerMessage.__subclasses__()
}
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(reduce(or_, KINDS.values()))

# The ends of a prompt: it has exactly one.
END_TYPES = frozenset(f"prompt.{end}" for end in ("applied", "superseded", "cancelled", "rejected", "failed"))


def type_of(event: ServerMessage) -> str:
    """Its name on the wire, as ``prompt.applied``."""
    return str(event.__struct_config__.tag)


def decode(text: str | bytes) -> ServerMessage | None:
    """The event in `text`; None if it is unknown here."""
    try:
        event: ServerMessage = _decoder.decode(text)
        return event
    except msgspec.DecodeError:
        return _decode_loosely(text)


def _decode_loosely(text: str | bytes) -> ServerMessage | None:
    """A known event of a newer server, with values that our types do not allow, such as a new error code."""
    try:
        fields = json.loads(text)
        kind = KINDS.get(str(fields.get("type"))) if isinstance(fields, dict) else None
        if kind is not None:
            event: ServerMessage = _build(kind, fields)
            return event
    except (ValueError, TypeError) as error:
        _log.warning("cannot read an event of the server: %s", error)
    return None


def _build(kind: type[msgspec.Struct], fields: dict[str, Any]) -> Any:
    """A struct of the known fields; raises `TypeError` if a needed one is missing."""
    hints = get_type_hints(kind)
    known = {name: _value(hints[name], fields[name]) for name in kind.__struct_fields__ if name in fields}
    return kind(**known)


def _value(hint: Any, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    choices = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    struct = next((each for each in choices if isinstance(each, type) and issubclass(each, msgspec.Struct)), None)
    return _build(struct, value) if struct is not None and isinstance(value, dict) else value
