"""What is written twice is the same: message names and shapes in both languages, texts in English and Chinese."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from server import messages

CLIENT = Path(messages.__file__).parent.parent / "client_web"
SCRIPT = (CLIENT / "sdk" / "messages.js").read_text()
SHAPES = (CLIENT / "sdk" / "types.d.ts").read_text()
STRUCTS = [
    messages.SessionOptions,
    messages.ErrorDetail,
    messages.FrameStamp,
    messages.PromptTimings,
    messages.IceServer,
    messages.StatsUpdated,
    messages.RecordingChanged,
    messages.StreamStarted,
]


def texts_in(script: str) -> list[tuple[str, str, str]]:
    pattern = r'^  "([\w.]+)": \[\s*"((?:[^"\\]|\\.)*)",\s*"((?:[^"\\]|\\.)*)",?\s*\]'
    return re.findall(pattern, (CLIENT / script).read_text(), re.M)


TEXTS = texts_in("i18n.js")
STUDIO_TEXTS = texts_in("studio/texts.js")
PUSH_TEXTS = texts_in("pushes.js")  # loaded later, with its texts


def names_in_script(constant: str) -> set[str]:
    block = re.search(rf"export const {constant} = Object\.freeze\(\{{(.*?)\}}\);", SCRIPT, re.S)
    assert block is not None
    return set(re.findall(r': "([\w.]+)"', block[1]))


def tags_of(base: type) -> set[str]:
    return {str(kind.__struct_config__.tag) for kind in base.__subclasses__()}


def test_client_and_server_know_the_same_client_messages() -> None:
    assert names_in_script("ClientType") == tags_of(messages.ClientMessage)


def test_client_and_server_know_the_same_server_messages() -> None:
    assert names_in_script("ServerType") == tags_of(messages.ServerMessage)


def test_both_speak_the_same_version() -> None:
    assert f"PROTOCOL_VERSION = {messages.PROTOCOL_VERSION};" in SCRIPT
    assert f"MAX_PROMPT_CHARACTERS = {messages.MAX_PROMPT_CHARACTERS};" in SCRIPT


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_documented_shapes_have_the_same_fields(struct: type[msgspec.Struct]) -> None:
    name = {"StatsUpdated": "Stats"}.get(struct.__name__, struct.__name__)
    block = re.search(rf"^export interface {name} \{{\n(.*?)^\}}", SHAPES, re.S | re.M)
    assert block is not None
    in_script = set(re.findall(r"^  (\w+)\??:", block[1], re.M))
    assert in_script == set(struct.__struct_fields__) - set(messages.ServerMessage.__struct_fields__)


def test_every_text_exists_in_both_languages_with_the_same_blanks() -> None:
    assert len(TEXTS) > 80
    assert len(STUDIO_TEXTS) > 60
    assert len(PUSH_TEXTS) > 10
    for key, english, chinese in TEXTS + STUDIO_TEXTS + PUSH_TEXTS:
        assert english and chinese, key
        assert set(re.findall(r"{\w+}", english)) == set(re.findall(r"{\w+}", chinese)), key


@pytest.mark.parametrize("folder", [".", "studio"])
def test_every_text_that_a_page_asks_for_exists(folder: str) -> None:
    keys = {key for key, _, _ in TEXTS + (STUDIO_TEXTS if folder == "studio" else [])}
    page = (CLIENT / folder / "index.html").read_text()
    asked = set(re.findall(r'data-i18n(?:-label|-placeholder)?="([\w.]+)"', page))
    for script in (CLIENT / folder).glob("*.js"):
        own = {key for key, _, _ in PUSH_TEXTS} if script.name == "pushes.js" else set()
        asked |= set(re.findall(r'\bt\("([\w.]+)"', script.read_text())) - own
    assert asked - keys == set()
