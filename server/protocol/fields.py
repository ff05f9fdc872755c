"""Rules for the fields of client messages that types cannot express: ranges, patterns, lengths. Pure.

A rule is in the field's type (`Annotated`), where `decoding.py` finds it and contracts read its JSON Schema. Refusals
have our own words and not msgspec's, because clients' users read them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from msgspec import Meta

from server.protocol.codes import ErrorCode

MAX_PROMPT_CHARACTERS = 2000
MAX_ID_CHARACTERS = 64
MAX_NAME_CHARACTERS = 128

Fault = tuple[ErrorCode, str]


class Rule(Protocol):
    @property
    def schema(self) -> dict[str, Any]:
        """The rule as JSON Schema, as far as that can express it."""
        ...

    def fault(self, name: str, value: Any) -> Fault | None:
        """The code and the words for a value that field `name` may not have; None for a valid value."""
        ...


@dataclass(frozen=True, slots=True)
class Range:
    low: float
    high: float
    is_even: bool = False

    @property
    def schema(self) -> dict[str, Any]:
        return {"minimum": self.low, "maximum": self.high, **({"multipleOf": 2} if self.is_even else {})}

    def fault(self, name: str, value: float) -> Fault | None:
        if not self.low <= value <= self.high:
            return "invalid_value", f"`{name}` must lie in {self.low:g}..{self.high:g}, got {value}"
        if self.is_even and value % 2:
            return "invalid_value", f"`{name}` must be even, got {value}"
        return None


@dataclass(frozen=True, slots=True)
class Pattern:
    """`words` follow "`name` must have"."""

    pattern: str
    words: str
    unless: str = ""  # a value that matches this is refused, though it matches `pattern`

    @property
    def schema(self) -> dict[str, Any]:
        not_this = f"(?!{self.unless}$)" if self.unless else ""
        return {"pattern": f"^{not_this}{self.pattern}$"}

    def fault(self, name: str, value: str) -> Fault | None:
        return None if self.allows(value) else ("invalid_value", f"`{name}` must have {self.words}")

    def allows(self, value: str) -> bool:
        is_excluded = self.unless != "" and re.fullmatch(self.unless, value) is not None
        return re.fullmatch(self.pattern, value) is not None and not is_excluded


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text that is neither empty nor too long."""

    @property
    def schema(self) -> dict[str, Any]:
        return {"minLength": 1, "maxLength": MAX_PROMPT_CHARACTERS}

    def fault(self, name: str, value: str) -> Fault | None:
        if not value.strip():
            return "prompt_empty", f"`{name}` is empty"
        if len(value) > MAX_PROMPT_CHARACTERS:
            return (
                "prompt_too_long",
                f"`{name}` has {len(value)} characters, at most {MAX_PROMPT_CHARACTERS} are allowed",
            )
        return None


def held_to(rule: Rule) -> Meta:
    return Meta(extra_json_schema=rule.schema, extra={"rule": rule})


# Identifiers go into log lines: nothing in them may end a line or hide a word.
ID = Pattern(rf"[!-~]{{1,{MAX_ID_CHARACTERS}}}", f"1 to {MAX_ID_CHARACTERS} visible ASCII characters")
# A stage's name is part of its addresses. It must not look like an id that we make up, since those are not guessable.
STAGE_NAME = Pattern(
    "[a-z0-9-]{3,40}", "3 to 40 of a-z, 0-9 and -, and not look like an id of ours", unless="s[0-9a-f]{16}"
)
FILE_NAME = Pattern(rf"[\s\S]{{1,{MAX_NAME_CHARACTERS}}}", f"1 to {MAX_NAME_CHARACTERS} characters, or be null")

FRAME_RATE = Range(5, 60)

Id = Annotated[str, held_to(ID)]
StageName = Annotated[str, held_to(STAGE_NAME)]
FileName = Annotated[str, held_to(FILE_NAME)]
PromptText = Annotated[str, held_to(Prompt())]
Width = Annotated[int, held_to(Range(128, 1920, is_even=True))]
Height = Annotated[int, held_to(Range(128, 1080, is_even=True))]
FrameRate = Annotated[int, held_to(FRAME_RATE)]
Bitrate = Annotated[int, held_to(Range(150_000, 20_000_000))]
TransitionSeconds = Annotated[float, held_to(Range(0.0, 5.0))]
Volume = Annotated[float, held_to(Range(0.0, 1.0))]  # factor of amplitude
Seed = Annotated[int, held_to(Range(0, 2**63 - 1))]
LastSeq = Annotated[int, held_to(Range(-1, 2**53))]
LineIndex = Annotated[int, held_to(Range(0, 255))]


def is_name(session_id: str) -> bool:
    """Whether this id is a name that a client may have chosen, and may choose again."""
    return STAGE_NAME.allows(session_id)
