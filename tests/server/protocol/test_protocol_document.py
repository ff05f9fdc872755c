"""docs/protocol.md says what the code does: every message, every field, every error code, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from server.doors.http_api import STATUS
from server.protocol import messages
from server.protocol.clients import tag_of
from server.protocol.codes import ERROR_TYPES
from server.protocol.decoding import CLIENT_TYPES, MAX_MESSAGE_BYTES
from server.protocol.fields import MAX_PROMPT_CHARACTERS
from server.protocol.table import ASKED, TOLD

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
KINDS = {tag_of(row.kind): row.kind for row in (*ASKED, *TOLD)}
SHARED = {"event_id", "session_id", "seq", "ts"}


def section(kind: str) -> str:
    """The text below the heading that names a message."""
    found = re.search(rf"^### [^\n]*`{re.escape(kind)}`[^\n]*\n(.*?)(?=^##)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found, f"`{kind}` has no section"
    return found.group(1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_message_and_field_is_described(kind: str) -> None:
    text = section(kind)
    missing = [name for name in KINDS[kind].__struct_fields__ if name not in SHARED and f"`{name}`" not in text]
    assert not missing


def test_every_described_message_exists() -> None:
    described = set(re.findall(r"`((?:session|prompt|program|recording|webrtc|stats)\.[a-z]+)`", DOCUMENT))
    assert described <= set(KINDS)
    assert set(KINDS) >= CLIENT_TYPES


def test_the_table_of_errors_is_the_list_of_errors() -> None:
    table = re.findall(r"^\| `(\w+)` \| (\w+) \| [^|]+\| ?(\d*) ?\|$", DOCUMENT, re.MULTILINE)
    assert {code: kind for code, kind, _ in table} == ERROR_TYPES
    assert {code: int(status) for code, _, status in table if status} == {
        code: int(STATUS.get(code, 400)) for code, _, status in table if status
    }


@pytest.mark.parametrize("code", ERROR_TYPES)
def test_every_error_code_has_a_test(code: str) -> None:
    here = Path(__file__)
    tests = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "server").rglob("test_*.py") if path != here
    )
    assert f'"{code}"' in tests


def test_every_warning_is_described() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "server").rglob("*.py"))
    sent = set(re.findall(r'warn\(\s*"(\w+)"', sources))
    assert sent
    assert all(f"| `{code}` |" in section("session.warning") for code in sent)


def test_every_reason_to_close_is_described() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "server").rglob("*.py"))
    reasons = set(re.findall(r'close\(\s*"(\w+)"', sources)) | set(re.findall(r'_close\(\w+, "(\w+)"', sources))
    assert reasons
    assert all(f"`{reason}`" in section("session.closed") for reason in reasons)


def test_the_documented_limits_are_the_real_ones() -> None:
    assert MAX_MESSAGE_BYTES == 256 * 1024
    assert MAX_PROMPT_CHARACTERS == 2000
    assert set(get_args(messages.TakeMode)) == {"auto", "manual"}
