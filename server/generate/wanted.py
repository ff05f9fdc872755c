"""The list of clips that a user wants: from arguments, a text file with a prompt a line, or a CSV file. Reads files.

A row that cannot be made is told with its line, and the others stay. A column that no clip has spoils the whole file,
because it is a typing error in all of its rows. Called by `cli.py` before anything is started.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from engine.api import ModelDescription, Quality
from server.doors.videos import wishes
from server.generate.video_file import ENDINGS
from server.protocol.errors import Refused

COLUMNS = ("prompt", "output", "seconds", "size", "seed", "quality", "lora", wishes.REFERENCE)
MAX_WANTED = 100_000
MAX_LIST_BYTES = 64 * 2**20
_TABLES = (".csv", ".tsv")
_SLUG_CHARACTERS = 60
_MAX_REFERENCE_BYTES = 12 * 2**20
# For the checks that need no model: it can do everything.
_ANY_MODEL = ModelDescription(
    name="any",
    device="",
    width=832,
    height=480,
    num_frames=49,
    frame_rate=24,
    num_steps=dict.fromkeys(Quality, 1),
    closes_on_itself=False,
    can_start_from_frame=True,
)


class ListError(Exception):
    """The list as a whole cannot be used."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One clip. `fields` are those of `POST /v1/videos`; `output` is relative to the folder of the run."""

    fields: Mapping[str, Any]
    output: str
    where: str = ""  # its line in the list; "" if it was an argument
    engine: str = ""  # the flags of the engine that makes it

    @property
    def digest(self) -> str:
        """Of all that the user said of this clip."""
        told = {name: _hashable(value) for name, value in self.fields.items()}
        return hashlib.blake2b(
            json.dumps([told, self.output, self.engine], sort_keys=True).encode(), digest_size=16
        ).hexdigest()


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that cannot be made."""

    where: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Row:
    cells: Mapping[str, str]
    where: str = ""
    problem: str = ""


def of_prompts(prompts: Iterable[str]) -> list[Row]:
    return [Row({"prompt": prompt}) for prompt in prompts]


def of_file(path: Path) -> list[Row]:
    """A table if the file's name ends so, else a prompt a line; `#` begins a comment. Raises `ListError`."""
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise ListError(f"{path} has more than {MAX_LIST_BYTES} bytes")
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets begin a file with a mark
            rows = list(_table(file)) if path.suffix.lower() in _TABLES else list(_lines(file))
    except OSError as error:
        raise ListError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ListError(f"{path} is not in UTF-8: {error.reason} at byte {error.start}") from None
    except csv.Error as error:
        raise ListError(f"{path} is no table: {error}") from None
    if len(rows) > MAX_WANTED:
        raise ListError(f"{path} has {len(rows)} clips; {MAX_WANTED} are the most")
    return rows


def collect(
    rows: Sequence[Row],
    defaults: Mapping[str, Any],
    *,
    folder: Path,
    file_name: str | None = None,
    engine: str = "",
) -> tuple[list[Wanted], list[Fault]]:
    """The clips, and the rows that cannot be made.

    `defaults` are fields of rows that do not have them. `folder` has the pictures that rows name. `file_name` is the
    output of the only clip; without it, a clip is named by its row or by its prompt.
    """
    found: list[Wanted] = []
    faults: list[Fault] = []
    names = _Names(row.cells.get("output", "") for row in rows)
    for row in rows:
        try:
            fields = _fields(row, defaults, folder)
            output = file_name or names.take(row.cells.get("output", ""), row.cells["prompt"])
        except Refused as refused:
            faults.append(Fault(row.where, refused.detail.code, refused.detail.message))
        else:
            found.append(Wanted(fields, output, row.where, engine))
    return found, faults


def check(fields: Mapping[str, Any]) -> None:
    """What can be said before a model is there. Raises `Refused`."""
    wishes.read({name: value for name, value in fields.items() if name != "lora"}, _ANY_MODEL)


def _fields(row: Row, defaults: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Raises `Refused`."""
    if row.problem:
        raise Refused("invalid_value", row.problem)
    told = {name: text.strip() for name, text in row.cells.items() if name != "output" and text.strip()}
    fields: dict[str, Any] = {**defaults, "prompt": "", **told}
    if (name := fields.get(wishes.REFERENCE)) is not None:
        fields[wishes.REFERENCE] = _picture(folder / name)
    check(fields)
    return fields


def _picture(path: Path) -> bytes:
    try:
        if path.stat().st_size <= _MAX_REFERENCE_BYTES:
            return path.read_bytes()
    except OSError as error:
        reason = f"the picture {path} cannot be read: {error.strerror}"
        raise Refused("invalid_value", reason, param=wishes.REFERENCE) from None
    reason = f"the picture {path} has more than {_MAX_REFERENCE_BYTES} bytes"
    raise Refused("invalid_value", reason, param=wishes.REFERENCE)


# --- files -----------------------------------------------------------------------------------------------------------


def _lines(file: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield Row({"prompt": line.strip()}, f"line {number}")


def _table(file: Iterable[str]) -> Iterator[Row]:
    """Raises `ListError`, `csv.Error`. A spreadsheet of many countries writes `;` or tabs between the cells."""
    lines = iter(file)
    head = next(lines, "")
    separator = max(",;\t", key=head.count)
    columns = [cell.strip().lower() for cell in next(csv.reader([head], delimiter=separator), [])]
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown or "prompt" not in columns or len(set(columns)) < len(columns):
        known = ", ".join(COLUMNS)
        raise ListError(f"the first line names the columns, `prompt` and any of {known}, once each; got {columns}")
    reader = csv.reader(lines, delimiter=separator)
    begin = 2
    for cells in reader:
        where, begin = f"line {begin}", reader.line_num + 2
        if len(cells) > len(columns):
            yield Row({}, where, f"the row has {len(cells)} cells, the first line names {len(columns)} columns")
        elif any(cell.strip() for cell in cells):
            yield Row(dict(zip(columns, cells, strict=False)), where)


# --- names -----------------------------------------------------------------------------------------------------------


class _Names:
    """Names of files, each given once. `chosen` are those that rows name: no name of a prompt takes one."""

    def __init__(self, chosen: Iterable[str]) -> None:
        self._chosen = {_with_ending(text.strip()) for text in chosen if text.strip()}
        self._taken: set[str] = set()

    def take(self, chosen: str, prompt: str) -> str:
        """Raises `Refused`."""
        if not chosen.strip():
            name = self._of_prompt(prompt)
        else:
            name = _with_ending(chosen.strip())
            path = PurePosixPath(name)
            if path.suffix.lower() not in ENDINGS:
                raise Refused("invalid_value", f"`output` must end in one of {', '.join(ENDINGS)}", param="output")
            if path.is_absolute() or any(part.startswith(".") for part in path.parts) or not name.isprintable():
                reason = "`output` must be a printable name in the folder of the clips, and not hidden"
                raise Refused("invalid_value", reason, param="output")
        if name in self._taken:
            raise Refused("invalid_value", f"the output {name} is there twice", param="output")
        self._taken.add(name)
        return name

    def _of_prompt(self, prompt: str) -> str:
        slug = re.sub(r"\W+", "-", prompt[: 4 * _SLUG_CHARACTERS]).strip("-_").lower()[:_SLUG_CHARACTERS] or "clip"
        number, name = 1, f"{slug}.mp4"
        while name in self._taken or name in self._chosen:
            number += 1
            name = f"{slug}-{number}.mp4"
        return name


def _with_ending(name: str) -> str:
    return name if PurePosixPath(name).suffix else f"{name}.mp4"


def _hashable(value: Any) -> str:
    return hashlib.blake2b(value, digest_size=16).hexdigest() if isinstance(value, bytes) else str(value)
