"""The list of wanted clips: what each row becomes, and what is told of a row that cannot be made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from server.generate.wanted import COLUMNS, ListError, Row, Wanted, collect, of_file, of_prompts

DEFAULTS = {"size": "832x480"}


def listed(path: Path, text: str) -> tuple[list[Wanted], list[tuple[str, str]]]:
    path.write_text(text, encoding="utf-8")
    wanted, faults = collect(of_file(path), DEFAULTS, folder=path.parent)
    return wanted, [(fault.where, fault.message) for fault in faults]


def test_a_text_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    wanted, faults = listed(tmp_path / "list.txt", "a cat\n\n# a comment\n  夜晚的雪山  \r\n")
    assert [one.fields["prompt"] for one in wanted] == ["a cat", "夜晚的雪山"]
    assert [one.output for one in wanted] == ["a-cat.mp4", "夜晚的雪山.mp4"]
    assert [one.where for one in wanted] == ["line 1", "line 4"] and not faults


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_are_fields_as_any_spreadsheet_writes_them(tmp_path: Path, separator: str) -> None:
    text = "\ufeffPrompt,output,seconds,seed\na cat,cat.gif,4,7\n".replace(",", separator)
    (one,), _ = listed(tmp_path / "list.csv", text)
    assert one.output == "cat.gif"
    assert one.fields == {"size": "832x480", "prompt": "a cat", "seconds": "4", "seed": "7"}


def test_an_empty_cell_takes_the_default(tmp_path: Path) -> None:
    (one, other), _ = listed(tmp_path / "list.csv", "prompt,size\na cat,\na dog,224x128\n")
    assert (one.fields["size"], other.fields["size"]) == ("832x480", "224x128")


def test_a_wrong_row_is_told_with_its_line_and_the_others_stay(tmp_path: Path) -> None:
    text = 'prompt,seconds,output\n"a cat\nand a dog",4,\na bird,99,\n,4,\na fish,4,x.avi\na fox,4,../fox.mp4\n'
    text += "an owl,4,owl.mp4\na bat,4,owl.mp4\na cow,4,,,,\na hen,four,\n"
    wanted, faults = listed(tmp_path / "list.csv", text)
    assert [one.where for one in wanted] == ["line 2", "line 8"]
    assert [where for where, _ in faults] == [f"line {number}" for number in (4, 5, 6, 7, 9, 10, 11)]
    words = (
        "`seconds` must lie",
        "`prompt` is empty",
        "must end in",
        "in the folder",
        "is there twice",
        "6 cells",
        "seconds",
    )
    assert all(word in message for word, (_, message) in zip(words, faults, strict=True)), faults


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("list.csv", "prompt,second\na,4\n", "first line names the columns"),
        ("list.csv", "seconds\n4\n", "first line names the columns"),
        ("list.csv", "prompt,prompt\na,b\n", "once each"),
        ("list.csv", "", "first line names the columns"),
    ],
)
def test_a_column_that_no_clip_has_spoils_the_list(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    with pytest.raises(ListError, match=complaint):
        listed(tmp_path / name, text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ListError, match="cannot be read"):
        of_file(tmp_path / "no.csv")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ListError, match="not in UTF-8"):
        of_file(tmp_path / "latin.txt")


def test_equal_prompts_get_files_of_their_own_and_no_chosen_name() -> None:
    rows = [*of_prompts(["A cat!", "a cat", "?"]), Row({"prompt": "a dog", "output": "a-cat-2"})]
    wanted, _ = collect(rows, DEFAULTS, folder=Path())
    assert [one.output for one in wanted] == ["a-cat.mp4", "a-cat-3.mp4", "clip.mp4", "a-cat-2.mp4"]
    assert len({one.digest for one in wanted}) == 4


def test_a_row_names_the_picture_that_its_clip_starts_from(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "first.png")
    wanted, faults = listed(tmp_path / "list.csv", "prompt,input_reference\na cat,first.png\na dog,no.png\n")
    assert wanted[0].fields["input_reference"].startswith(b"\x89PNG")
    assert faults[0][0] == "line 3" and "no.png cannot be read" in faults[0][1]


def test_another_engine_makes_another_clip() -> None:
    rows = of_prompts(["a cat"])
    (one,), _ = collect(rows, DEFAULTS, folder=Path())
    (other,), _ = collect(rows, DEFAULTS, folder=Path(), engine="--model other")
    assert one.digest != other.digest


def test_the_list_of_the_document_can_be_made(tmp_path: Path) -> None:
    document = (Path(__file__).parents[3] / "docs" / "generate.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"```csv\n(.*?)```", document, re.DOTALL)
    wanted, faults = listed(tmp_path / "list.csv", table)
    assert [one.output for one in wanted] == ["sailboat.mp4", "cat.gif", "夜晚的雪山.mp4"] and not faults
    assert all(f"| `{column}` |" in document for column in COLUMNS)
