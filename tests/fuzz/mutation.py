"""Makes odd inputs from good ones: bytes changed, cut out, doubled, or mixed with another input. Pure.

Used by `test_fuzz.py`. No coverage guides it: the corpus holds an example of each form, and one to four changes are
enough to leave the path that a parser expects.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

MAX_BYTES = 64 * 1024  # more is refused by size alone, wherever we look
_NUMBERS = (0, 1, 2, 3, 4, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_ODD_TEXTS = (
    *("", "0", "-1", "1", "65536", "4294967296", "9" * 400, "1e999", "NaN", "Infinity", "0.5", "null", "true"),
    *(
        "[",
        "]",
        "{}",
        "[" * 3000,
        '"',
        "\\",
        "\\u0000",
        "\\ud800",
        "\0",
        "\r",
        "\n",
        "\x85",
        "\u2028",
        "é",
        "日",
        "\U0001f600",
    ),
    *(
        " ",
        "  ",
        ":",
        "=",
        ";",
        "/",
        ".",
        ",",
        "-",
        "%",
        "::1",
        "0.0.0.0",
        "255.255.255.255",
        "fe80::1%eth0",
        "x.local",
    ),
)


def mutated(corpus: Sequence[bytes], chance: random.Random, *, is_text: bool) -> bytes:
    """One input of the corpus with one to four changes. The same `chance` gives the same bytes."""
    data = chance.choice(corpus)
    for _ in range(chance.randint(1, 4)):
        changes = _OF_TEXT if is_text and chance.random() < 0.8 else _OF_BYTES
        data = chance.choice(changes)(data, chance, chance.choice(corpus))[:MAX_BYTES]
    return data


_Change = Callable[[bytes, random.Random, bytes], bytes]


def _span(size: int, chance: random.Random, most: int = 64) -> tuple[int, int]:
    start = chance.randint(0, size)
    return start, min(size, start + chance.randint(1, chance.choice((2, 8, most))))


def _flipped(data: bytes, chance: random.Random, other: bytes) -> bytes:
    at = chance.randrange(len(data) or 1)
    return data[:at] + bytes(byte ^ 1 << chance.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :]


def _overwritten(data: bytes, chance: random.Random, other: bytes) -> bytes:
    size = chance.choice((1, 2, 4))
    at = chance.randint(0, len(data))
    number = chance.choice((*_NUMBERS, len(data), len(data) - at)) & (1 << 8 * size) - 1
    return data[:at] + number.to_bytes(size, chance.choice(("big", "little"))) + data[at + size :]


def _without_part(data: bytes, chance: random.Random, other: bytes) -> bytes:
    start, end = _span(len(data), chance)
    return data[:start] + data[end:]


def _doubled(data: bytes, chance: random.Random, other: bytes) -> bytes:
    start, end = _span(len(data), chance)
    return data[:end] + data[start:end] * chance.choice((1, 1, 1, 40)) + data[end:]


def _with_random_bytes(data: bytes, chance: random.Random, other: bytes) -> bytes:
    start, end = _span(len(data), chance, 16)
    return data[:start] + chance.randbytes(chance.randint(1, 16)) + data[chance.choice((start, end)) :]


def _cut_off(data: bytes, chance: random.Random, other: bytes) -> bytes:
    return data[: chance.randint(0, len(data))]


def _spliced(data: bytes, chance: random.Random, other: bytes) -> bytes:
    return data[: chance.randint(0, len(data))] + other[chance.randint(0, len(other)) :]


def _with_odd_text(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """In place of a word or a number, or between two."""
    words = list(re.finditer(rb"[A-Za-z0-9_]+", data))
    start, end = chance.choice(words).span() if words else (0, 0)
    return (
        data[:start] + chance.choice(_ODD_TEXTS).encode("utf-8", "surrogatepass") + data[chance.choice((start, end)) :]
    )


def _with_other_word(data: bytes, chance: random.Random, other: bytes) -> bytes:
    words, theirs = list(re.finditer(rb"[^\s\"]+", data)), re.findall(rb"[^\s\"]+", other)
    start, end = chance.choice(words).span() if words else (0, 0)
    return data[:start] + (chance.choice(theirs) if theirs else b"") + data[end:]


def _with_other_lines(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """A line is taken out, doubled, moved, or comes from another input."""
    lines, theirs = data.splitlines(keepends=True), other.splitlines(keepends=True)
    line = lines.pop(chance.randrange(len(lines))) if lines else b""
    for added in chance.choice(([], [line], [line] * 2, [line] * 40, theirs and [chance.choice(theirs)])):
        lines.insert(chance.randint(0, len(lines)), added)
    return b"".join(lines)


_OF_BYTES: tuple[_Change, ...] = (
    *(_flipped, _overwritten, _overwritten, _without_part, _doubled, _with_random_bytes, _cut_off, _spliced),
)
_OF_TEXT: tuple[_Change, ...] = (_with_odd_text, _with_other_word, _with_other_lines)
