"""Reads chat lines, and finds the commands that are meant for us. Pure."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

MAX_SCENE_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class ChatLine:
    """One line of any chat. `user` is a name that the chat vouches for."""

    user: str
    text: str
    is_moderator: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """`!scene a red sailboat`, or 「!场景 海边」"""

    text: str


@dataclass(frozen=True, slots=True)
class Vote:
    """`!vote 2`"""

    number: int


@dataclass(frozen=True, slots=True)
class Approve:
    """`!approve 3`, a moderator's"""

    number: int


@dataclass(frozen=True, slots=True)
class Reject:
    """`!reject 3`, a moderator's"""

    number: int


@dataclass(frozen=True, slots=True)
class Blank:
    """`!blank`, a moderator's panic button"""


@dataclass(frozen=True, slots=True)
class Resume:
    """`!resume`, a moderator's"""


Command = Scene | Vote | Approve | Reject | Blank | Resume

_COMMAND = re.compile(r"[!！](?P<word>\w+)\s*(?P<rest>.*)", re.DOTALL)
_NUMBERED: dict[str, type[Vote | Approve | Reject]] = {
    "vote": Vote,
    "投票": Vote,
    "approve": Approve,
    "通过": Approve,
    "reject": Reject,
    "拒绝": Reject,
}
_PLAIN: dict[str, type[Blank | Resume]] = {"blank": Blank, "黑屏": Blank, "resume": Resume, "恢复": Resume}
_SCENE_WORDS = ("scene", "场景")


def read(text: str) -> Command | None:
    """The command in a line; None if it has none."""
    found = _COMMAND.match(text.strip())
    if found is None:
        return None
    word, rest = found["word"].lower(), found["rest"]
    for name in _SCENE_WORDS:
        # Chinese needs no space: 「!场景海边」
        if word == name or (word.startswith(name) and not name.isascii()):
            return Scene(_clean(word.removeprefix(name) + " " + rest))
    if word in _NUMBERED:
        number = rest.strip().removeprefix("#")
        return _NUMBERED[word](int(number)) if re.fullmatch(r"[0-9]{1,9}", number) else None
    return _PLAIN[word]() if word in _PLAIN else None


def _clean(text: str) -> str:
    """One line without control characters, at most `MAX_SCENE_CHARACTERS`."""
    visible = "".join(" " if unicodedata.category(character).startswith("C") else character for character in text)
    return " ".join(visible.split())[:MAX_SCENE_CHARACTERS].strip()
