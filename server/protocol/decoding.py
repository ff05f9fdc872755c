"""Decodes texts into valid client messages, and encodes server messages. Pure; the doors call it.

Any fault of a client's message is a `MessageError` that names code and field; nothing else is raised.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec
from msgspec import UNSET

from server.protocol.codes import ErrorCode
from server.protocol.errors import MessageError
from server.protocol.fields import MAX_ID_CHARACTERS, Rule
from server.protocol.messages import AnyClientMessage, ServerMessage, SessionStart, StreamStarted

MAX_MESSAGE_BYTES = 256 * 1024

_decoder: msgspec.json.Decoder[AnyClientMessage] = msgspec.json.Decoder(AnyClientMessage)
_encoder = msgspec.json.Encoder()
CLIENT_TYPES = frozenset(str(kind.__struct_config__.tag) for kind in AnyClientMessage.__args__)
_AT_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_NAMED_FIELD = re.compile(r"field `(?P<field>[^`]*)`")


def decode(text: str | bytes) -> AnyClientMessage:
    """The message in `text`. Raises `MessageError` whose detail names code and field; never anything else.

    If a key occurs twice, the last one counts, as in every browser.
    """
    if len(text) > MAX_MESSAGE_BYTES or (isinstance(text, str) and _utf8_length(text) > MAX_MESSAGE_BYTES):
        raise MessageError("message_too_large", f"a message has at most {MAX_MESSAGE_BYTES} bytes")
    try:
        message = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _explain(text, str(error)) from None
    _check_values(message)
    return message


def session_start(options: Mapping[str, object]) -> SessionStart:
    """The message with these options, whose values may be texts, as in a query. Raises `MessageError`."""
    culprit = next(_impossible_values(dict(options)), None)
    if culprit is not None:
        raise MessageError(culprit.code, culprit.message, param=culprit.param)
    try:
        loose = msgspec.convert(dict(options), SessionStart, strict=False)
    except msgspec.ValidationError as error:
        raise _explain_shape("session.start", str(error), None) from None
    message = decode(msgspec.json.encode(loose))
    assert isinstance(message, SessionStart)
    return message


def encode(message: ServerMessage | StreamStarted) -> str:
    return _encoder.encode(message).decode()


def _utf8_length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _explain(text: str | bytes, reason: str) -> MessageError:
    """Finds the broken rule, in our codes.

    The standard library reads the message again, because it accepts what msgspec refuses: NaN, numbers beyond a float,
    and escapes that are half a surrogate pair. So the error names the field instead of a byte offset.
    """
    try:
        loose = json.loads(text)
    except (ValueError, RecursionError):
        loose = None
    if not isinstance(loose, dict):
        return MessageError("invalid_json", f"expected one JSON object: {reason}")
    event_id = loose.get("event_id")
    if not isinstance(event_id, str) or len(event_id) > MAX_ID_CHARACTERS or not is_text(event_id):
        event_id = None
    kind = loose.get("type")
    if "type" not in loose:
        return MessageError("missing_field", "the field `type` is missing", param="type", event_id=event_id)
    if not isinstance(kind, str) or kind not in CLIENT_TYPES:
        known = ", ".join(sorted(CLIENT_TYPES))
        return MessageError("unknown_event", f"`type` must be one of: {known}", param="type", event_id=event_id)
    culprit = next(_impossible_values(loose), None)
    if culprit is not None:
        return MessageError(culprit.code, culprit.message, param=culprit.param, event_id=event_id)
    return _explain_shape(kind, reason, event_id)


def _explain_shape(kind: str, reason: str, event_id: str | None) -> MessageError:
    path = _AT_PATH.search(reason)
    named = _NAMED_FIELD.search(reason)
    param = (named and named["field"]) or (path and path["path"]) or None
    if "unknown field" in reason:
        return MessageError("unknown_field", f"`{kind}` has no field `{param}`", param=param, event_id=event_id)
    if "missing required field" in reason:
        return MessageError("missing_field", f"`{kind}` needs the field `{param}`", param=param, event_id=event_id)
    if path is None:
        return MessageError("invalid_json", f"expected one JSON object: {reason}", event_id=event_id)
    message = _AT_PATH.sub("", reason)
    code: ErrorCode = "invalid_value" if "enum value" in reason or "out of range" in reason else "wrong_type"
    return MessageError(code, f"`{param}`: {message}", param=param, event_id=event_id)


class _Culprit(NamedTuple):
    code: ErrorCode
    message: str
    param: str | None


def _impossible_values(loose: dict[str, Any]) -> Iterator[_Culprit]:
    """Fields with values that `json` accepts, browsers never send, and no field of ours can take."""
    for name, value in loose.items():
        if not is_text(name):
            yield _Culprit("invalid_text", "a field's name holds a lone surrogate, which is not Unicode text", None)
        elif isinstance(value, float) and not math.isfinite(value):
            yield _Culprit("invalid_value", f"`{name}` must be a finite number, got {value}", name)
        elif isinstance(value, str) and not is_text(value):
            yield _Culprit("invalid_text", f"`{name}` holds a lone surrogate, which is not Unicode text", name)


def is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _rules(kind: type[AnyClientMessage]) -> dict[str, Rule]:
    """The rules in the types of a message's fields, by field."""
    hints = get_type_hints(kind, include_extras=True)
    found: dict[str, Rule] = {}
    for name in kind.__struct_fields__:
        for part in (hints[name], *get_args(hints[name])):
            for meta in getattr(part, "__metadata__", ()):
                found[name] = meta.extra["rule"]
    return found


_RULES: dict[type, dict[str, Rule]] = {kind: _rules(kind) for kind in AnyClientMessage.__args__}


def _check_values(message: AnyClientMessage) -> None:
    """Checks what types cannot express: ranges, patterns and lengths."""
    for name, rule in _RULES[type(message)].items():
        value = getattr(message, name)
        fault = None if value is None or value is UNSET else rule.fault(name, value)
        if fault is not None:
            code, words = fault
            event_id = message.event_id if name != "event_id" else None
            raise MessageError(code, words, param=name, event_id=event_id)
