"""The wire protocol: every way in which a client's message can be wrong has its code and names its field."""

from __future__ import annotations

import json
import math
import random
from typing import get_args

import msgspec
import pytest

from server.messages import (
    MAX_ID_CHARACTERS,
    MAX_MESSAGE_BYTES,
    MAX_PROMPT_CHARACTERS,
    AnyClientMessage,
    Error,
    IceServer,
    MessageError,
    PromptSet,
    SessionStart,
    decode,
    encode,
    error_detail,
    session_start,
)
from tests.seeds import seeds


def prompt(text: str = "sea", **more: object) -> str:
    return json.dumps({"type": "prompt.set", "text": text, **more})


BAD_MESSAGES = {
    "empty message": ("", "invalid_json", None),
    "not json": ("hello", "invalid_json", None),
    "truncated": ('{"type":"prompt.set","text":"se', "invalid_json", None),
    "trailing bracket": ('{"type":"session.ping"}}', "invalid_json", None),
    "array": ('[{"type":"session.ping"}]', "invalid_json", None),
    "number": ("42", "invalid_json", None),
    "null": ("null", "invalid_json", None),
    "byte order mark": ('\ufeff{"type":"session.ping"}', "invalid_json", None),
    "raw control character": ('{"type":"prompt.set","text":"a\x01b"}', "invalid_json", None),
    "huge nesting": ("[" * 100_000, "invalid_json", None),
    "huge nesting in a field": (
        '{"type":"session.ping","x":' + "[" * 50_000 + "]" * 50_000 + "}",
        "invalid_json",
        None,
    ),
    "too large": (prompt("a" * MAX_MESSAGE_BYTES), "message_too_large", None),
    "too large in utf-8 only": (
        '{"type":"prompt.set","text":"' + "海" * (MAX_MESSAGE_BYTES // 3) + '"}',
        "message_too_large",
        None,
    ),
    "no type": ('{"text":"sea"}', "missing_field", "type"),
    "unknown event": ('{"type":"prompt.pause"}', "unknown_event", "type"),
    "server event": ('{"type":"prompt.applied"}', "unknown_event", "type"),
    "type is a list": ('{"type":["prompt.set"]}', "unknown_event", "type"),
    "two types": ('{"type":"session.ping","type":"prompt.set","text":"sea"}', "wrong_type", "type"),
    "no text": ('{"type":"prompt.set"}', "missing_field", "text"),
    "text is a number": ('{"type":"prompt.set","text":5}', "wrong_type", "text"),
    "text is null": ('{"type":"prompt.set","text":null}', "wrong_type", "text"),
    "width is text": ('{"type":"session.start","width":"832"}', "wrong_type", "width"),
    "width is true": ('{"type":"session.start","width":true}', "wrong_type", "width"),
    "width has a fraction": ('{"type":"session.start","width":832.5}', "wrong_type", "width"),
    "unknown field": (prompt(colour="red"), "unknown_field", "colour"),
    "unknown quality": (prompt(quality="best"), "invalid_value", "quality"),
    "odd width": ('{"type":"session.start","width":833}', "invalid_value", "width"),
    "huge width": ('{"type":"session.start","width":100000}', "invalid_value", "width"),
    "negative frame rate": ('{"type":"session.start","frame_rate":-1}', "invalid_value", "frame_rate"),
    "negative seed": (prompt(seed=-1), "invalid_value", "seed"),
    "seed beyond 64 bits": (prompt(seed=10**30), "invalid_value", "seed"),
    "nan": ('{"type":"session.start","transition_s":NaN}', "invalid_value", "transition_s"),
    "infinity": ('{"type":"session.start","transition_s":Infinity}', "invalid_value", "transition_s"),
    "minus infinity": ('{"type":"session.start","transition_s":-Infinity}', "invalid_value", "transition_s"),
    "number beyond a float": ('{"type":"session.start","transition_s":1e400}', "invalid_value", "transition_s"),
    "nan for text": ('{"type":"prompt.set","text":NaN}', "invalid_value", "text"),
    "lone high surrogate": ('{"type":"prompt.set","text":"a\\ud83d"}', "invalid_text", "text"),
    "lone low surrogate": ('{"type":"prompt.set","text":"\\ude00b"}', "invalid_text", "text"),
    "lone surrogate in an id": ('{"type":"session.ping","event_id":"\\ud800"}', "invalid_text", "event_id"),
    "lone surrogate in a name": ('{"type":"session.ping","\\ud800":1}', "invalid_text", None),
    "empty prompt": (prompt(""), "prompt_empty", "text"),
    "blank prompt": (prompt(" \n\u3000"), "prompt_empty", "text"),
    "long prompt": (prompt("a" * 10_000), "prompt_too_long", "text"),
    "empty event id": ('{"type":"session.ping","event_id":""}', "invalid_value", "event_id"),
    "long event id": (prompt(event_id="e" * (MAX_ID_CHARACTERS + 1)), "invalid_value", "event_id"),
    "event id with a line end": (prompt(event_id="e1\ns1 > prompt.applied"), "invalid_value", "event_id"),
    "event id is a number": ('{"type":"session.ping","event_id":7}', "wrong_type", "event_id"),
}


@pytest.mark.parametrize(("text", "code", "param"), BAD_MESSAGES.values(), ids=BAD_MESSAGES.keys())
def test_bad_message_gets_its_code_and_field(text: str, code: str, param: str | None) -> None:
    with pytest.raises(MessageError) as caught:
        decode(text)
    assert (caught.value.detail.code, caught.value.detail.param) == (code, param)
    encode(Error(error=caught.value.detail))  # and can be told to the client


@pytest.mark.random
def test_whatever_is_sent_is_a_message_or_a_fault_that_can_be_told() -> None:
    for seed in seeds(2000):
        chance = random.Random(seed)
        try:
            decode(mutilated(odd_message(chance), chance) if seed % 2 else odd_message(chance))
        except MessageError as fault:
            assert encode(Error(error=fault.detail)), seed


def odd_message(chance: random.Random) -> str:
    """A message of some kind, with some of its fields, most of them right, and sometimes one of another kind."""
    kind = chance.choice(get_args(AnyClientMessage))
    names = [field.name for field in msgspec.structs.fields(chance.choice([kind, kind, kind, SessionStart]))]
    values = [
        "sea",
        "cut",
        "e1",
        1,
        0.5,
        24,
        True,
        None,
        -1,
        2**70,
        1e308,
        "",
        "日" * 3000,
        "\x00",
        "\ud800",
        [],
        {},
        [{}],
    ]
    fields = {name: chance.choice(values) for name in chance.sample(names, chance.randint(0, min(3, len(names))))}
    return json.dumps({"type": kind.__struct_config__.tag, **fields})


def mutilated(whole: str, chance: random.Random) -> str | bytes:
    """A part is cut out, doubled, or replaced, at any character or byte."""
    start, end = sorted((chance.randint(0, len(whole)), chance.randint(0, len(whole))))
    if chance.random() < 0.5:
        return whole[:start].encode() + chance.choice([b"", chance.randbytes(3)]) + whole[end:].encode()
    odd = ['"', "\\", "{", "]", ",", "null", "1e999", "-0", "\ud800", "\x00", "\\u0000", whole[start:end] * 2, ""]
    return whole[:start] + chance.choice(odd) + whole[end:]


def test_a_lone_surrogate_in_the_string_itself_is_refused() -> None:
    with pytest.raises(MessageError) as caught:
        decode('{"type":"prompt.set","text":"\ud800"}')
    assert caught.value.detail.code == "invalid_text"


@pytest.mark.parametrize(
    "text",
    [
        prompt("", event_id="e1"),
        prompt(colour="red", event_id="e1"),
        '{"event_id":"e1","type":"prompt.set","text":NaN}',
    ],
)
def test_the_error_repeats_the_event_id(text: str) -> None:
    with pytest.raises(MessageError) as caught:
        decode(text)
    assert caught.value.detail.event_id == "e1"


def test_of_a_key_that_stands_twice_the_last_counts() -> None:
    message = decode('{"type":"prompt.set","text":"first","text":"last"}')
    assert isinstance(message, PromptSet)
    assert message.text == "last"


def test_surrogate_pairs_and_both_languages_pass() -> None:
    message = decode('{"type":"prompt.set","text":"日落 \\ud83d\\ude00"}')
    assert isinstance(message, PromptSet)
    assert message.text == "日落 😀"


def test_the_longest_prompt_passes() -> None:
    message = decode(prompt("日" * MAX_PROMPT_CHARACTERS))
    assert isinstance(message, PromptSet)


def test_defaults_of_a_session() -> None:
    message = decode('{"type":"session.start"}')
    assert isinstance(message, SessionStart)
    assert (message.width, message.height, message.frame_rate) == (832, 480, 24)
    assert math.isclose(message.transition_s, 0.5)


def test_server_messages_are_flat_json_with_their_type() -> None:
    detail = error_detail("no_session", "start first")
    sent = json.loads(encode(Error(error=detail, session_id="s1", seq=3, ts=1.5)))
    assert sent["type"] == "error"
    assert (sent["session_id"], sent["seq"], sent["ts"]) == ("s1", 3, 1.5)
    assert sent["error"]["code"] == "no_session"


@pytest.mark.parametrize(
    "name", ["ab", "a" * 41, "My-Show", "my_show", "my show", "s0123456789abcdef", "../etc", "a@b"]
)
def test_a_name_must_fit_into_an_address(name: str) -> None:
    with pytest.raises(MessageError) as caught:
        decode(json.dumps({"type": "session.start", "name": name}))
    assert (caught.value.detail.code, caught.value.detail.param) == ("invalid_value", "name")
    assert decode('{"type":"session.start","name":"my-show-2"}') == SessionStart(name="my-show-2")


def test_options_may_come_as_texts() -> None:
    query = {"frame_rate": "12", "transition_s": "0.25", "fresh": "true", "seed": "7", "name": "my-show"}
    expected = SessionStart(frame_rate=12, transition_s=0.25, fresh=True, seed=7, name="my-show")
    assert session_start(query) == expected
    assert session_start({}) == SessionStart()
    with pytest.raises(MessageError) as caught:
        session_start({"lora": "\ud83d"})
    assert caught.value.detail.code == "invalid_text"


def test_an_ice_server_leaves_out_what_it_has_not() -> None:
    """`RTCPeerConnection` would take null for the text "null"."""
    assert json.loads(msgspec.json.encode(IceServer(urls=("stun:a",)))) == {"urls": ["stun:a"]}
