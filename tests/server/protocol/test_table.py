"""The table of routes and messages: it is complete, has nothing else, and clients are made from it."""

from __future__ import annotations

import inspect
from pathlib import Path

import msgspec
import pytest

from engine.synthetic import SyntheticEngine
from sceneshift import Session, decoding
from sceneshift.protocol import messages as of_the_sdk
from server import app
from server.config import Settings
from server.protocol import clients, messages
from server.protocol.codes import ERROR_TYPES
from server.protocol.decoding import decode
from server.protocol.table import ASKED, COMMON_ERRORS, ROUTES, TOLD, Asked, Route

# The SDKs send these themselves, to open, keep and end a session and its video.
_SAID_BY_THE_CONNECTION = ("session.start", "session.resume", "session.close", "session.ping")
# For other messages, the verb is the part after the dot.
_VERBS = {"prompt.set": "prompt"}


def test_every_route_of_the_server_has_a_row_and_every_row_a_route() -> None:
    served = app.build(Settings(), SyntheticEngine()).router.routes()
    assert {
        (route.method, route.resource.canonical) for route in served if route.resource and route.method != "HEAD"
    } == {(row.method, row.path) for row in ROUTES}


def test_every_message_has_a_row() -> None:
    assert [row.kind for row in ASKED] == list(messages.AnyClientMessage.__args__)
    assert {row.kind for row in TOLD} == set(messages.ServerMessage.__subclasses__())


@pytest.mark.parametrize("row", ASKED, ids=lambda row: clients.tag_of(row.kind))
def test_the_server_accepts_the_example_of_each_message(row: Asked) -> None:
    assert decode(msgspec.json.encode(row.example)) == row.example


@pytest.mark.parametrize("row", [*ASKED, *ROUTES], ids=lambda row: getattr(row, "path", None))
def test_the_errors_of_a_row_are_known_codes_without_repeats(row: Asked | Route) -> None:
    common = COMMON_ERRORS if isinstance(row, Asked) else ()
    assert set(row.errors) <= set(ERROR_TYPES)
    assert len({*row.errors, *common}) == len(row.errors) + len(common)


def test_each_answer_is_a_message_of_the_servers() -> None:
    told = {row.kind for row in TOLD}
    assert {answer for row in ASKED for answer in row.answers} <= told


def test_the_sdk_knows_which_messages_end_a_prompt() -> None:
    assert {clients.tag_of(row.kind) for row in TOLD if row.ends_prompt} == decoding.END_TYPES


@pytest.mark.parametrize("path", clients.written(), ids=lambda path: path.name)
def test_the_generated_client_files_are_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == clients.written()[path], "run `make clients`"


def test_the_types_of_the_python_sdk_are_the_servers() -> None:
    assert {tag: kind.__struct_fields__ for tag, kind in decoding.KINDS.items()} == {
        clients.tag_of(row.kind): row.kind.__struct_fields__ for row in TOLD
    }
    assert of_the_sdk.ServerMessage is not messages.ServerMessage


def test_the_python_sdk_has_a_verb_for_every_message_that_a_program_may_send() -> None:
    tags = [clients.tag_of(row.kind) for row in ASKED]
    for tag in tags:
        if tag not in _SAID_BY_THE_CONNECTION and not tag.startswith("webrtc."):
            verb = _VERBS.get(tag, tag.rpartition(".")[2])
            assert inspect.iscoroutinefunction(getattr(Session, verb, None)), f"Session has no `{verb}` for `{tag}`"
