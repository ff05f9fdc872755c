"""The wire protocol: each fault of a client's message has its code and names its field."""

from __future__ import annotations

import json
import math
import random
import re
from typing import get_args

import msgspec
import pytest

from server.protocol.codes import error_detail
from server.protocol.decoding import CLIENT_TYPES, MAX_MESSAGE_BYTES, decode, encode, session_start
from server.protocol.errors import MessageError, Refused
from server.protocol.fields import MAX_ID_CHARACTERS, MAX_NAME_CHARACTERS, MAX_PROMPT_CHARACTERS
from server.protocol.messages import AnyClientMessage, Error, IceServer, PromptSet, SessionStart
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
    "odd height": ('{"type":"session.start","height":481}', "invalid_value", "height"),
    "huge width": ('{"type":"session.start","width":100000}', "invalid_value", "width"),
    "negative frame rate": ('{"type":"session.start","frame_rate":-1}', "invalid_value", "frame_rate"),
    "negative seed": (prompt(seed=-1), "invalid_value", "seed"),
    "seed beyond 64 bits": (prompt(seed=10**30), "invalid_value", "seed"),
    "nan": ('{"type":"session.start","transition_s":NaN}', "invalid_value", "transition_s"),
    "infinity": ('{"type":"session.start","transition_s":Infinity}', "invalid_value", "transition_s"),
    "minus infinity": ('{"type":"session.start","transition_s":-Infinity}', "invalid_value", "transition_s"),
    "number beyond a float": ('{"type":"session.start","transition_s":1e400}', "invalid_value", "transition_s"),
    "nan deep inside": ('{"x":{"y":NaN},"type":"session.ping"}', "invalid_json", None),
    "nan for text": ('{"type":"prompt.set","text":NaN}', "invalid_value", "text"),
    "lone high surrogate": ('{"type":"prompt.set","text":"a\\ud83d"}', "invalid_text", "text"),
    "lone low surrogate": ('{"type":"prompt.set","text":"\\ude00b"}', "invalid_text", "text"),
    "the first surrogate": ('{"type":"prompt.set","text":"\\ud800"}', "invalid_text", "text"),
    "the last surrogate": ('{"type":"prompt.set","text":"\\udfff"}', "invalid_text", "text"),
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
    detail = caught.value.detail
    assert (detail.code, detail.param, detail.event_id, detail.retryable) == (code, param, None, False)
    assert detail.message == str(caught.value) != "" and (param is None or f"`{param}`" in detail.message)
    encode(Error(error=detail))  # and can be told to the client


@pytest.mark.random
def test_random_input_is_a_message_or_an_error_that_can_be_encoded() -> None:
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


READABLE = {
    name: text.replace("{", '{"event_id":"e1",', 1)
    for name, (text, code, _) in BAD_MESSAGES.items()
    if (code != "invalid_json" or name == "nan deep inside") and code != "message_too_large" and "event_id" not in text
}


@pytest.mark.parametrize("text", READABLE.values(), ids=READABLE.keys())
def test_the_error_repeats_the_event_id(text: str) -> None:
    with pytest.raises(MessageError) as caught:
        decode(text)
    assert caught.value.detail.event_id == "e1"


@pytest.mark.parametrize("event_id", ["", "e" * MAX_ID_CHARACTERS])
def test_an_event_id_is_repeated_up_to_its_longest(event_id: str) -> None:
    with pytest.raises(MessageError) as caught:
        decode(prompt(colour="red", event_id=event_id))
    assert caught.value.detail.event_id == event_id


@pytest.mark.parametrize("event_id", [7, "e" * (MAX_ID_CHARACTERS + 1), "\ud800"])
def test_an_invalid_event_id_is_not_repeated(event_id: object) -> None:
    with pytest.raises(MessageError) as caught:
        decode(json.dumps({"type": "no such", "event_id": event_id}))
    assert (caught.value.detail.code, caught.value.detail.event_id) == ("unknown_event", None)


def test_an_unknown_field_error_names_the_message() -> None:
    with pytest.raises(MessageError, match=r"`prompt\.set` has no field `colour`"):
        decode(prompt(colour="red"))


def test_an_unknown_event_error_lists_the_known_ones() -> None:
    with pytest.raises(MessageError, match=re.escape(", ".join(sorted(CLIENT_TYPES)))):
        decode('{"type":"prompt.pause"}')


def test_the_last_of_two_equal_keys_counts() -> None:
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


def test_the_largest_message_passes_the_bound() -> None:
    room = MAX_MESSAGE_BYTES - len(prompt(""))
    for text in ("a" * room, "海" * (room // 3) + "a" * (room % 3)):
        for is_larger in (False, True):
            with pytest.raises(MessageError) as caught:
                decode(prompt("").replace('""', f'"{text + "a" * is_larger}"'))
            assert caught.value.detail.code == ("message_too_large" if is_larger else "prompt_too_long")


def test_a_message_may_come_as_bytes() -> None:
    assert decode(prompt("海").encode()) == PromptSet(text="海")
    with pytest.raises(MessageError) as caught:
        decode(prompt("a" * MAX_MESSAGE_BYTES).encode())
    assert caught.value.detail.code == "message_too_large"


RANGES = [
    ("session.start", "width", 128, 1920, 2),
    ("session.start", "height", 128, 1080, 2),
    ("session.start", "frame_rate", 5, 60, 1),
    ("session.start", "bitrate", 150_000, 20_000_000, 1),
    ("session.start", "transition_s", 0.0, 5.0, 0.01),
    ("session.update", "music_volume", 0.0, 1.0, 0.01),
    ("session.update", "seed", 0, 2**63 - 1, 1),
    ("session.resume", "last_seq", -1, 2**53, 1),
    ("webrtc.candidate", "sdp_mline_index", 0, 255, 1),
]


@pytest.mark.parametrize(("kind", "name", "low", "high", "step"), RANGES, ids=[name for _, name, *_ in RANGES])
def test_a_range_holds_both_of_its_ends_and_nothing_beyond(
    kind: str, name: str, low: float, high: float, step: float
) -> None:
    needed = {
        "session.resume": {"session_id": "s1", "resume_token": "t"},
        "webrtc.candidate": {"candidate": ""},
    }.get(kind, {})
    for value in (low, high):
        decode(json.dumps({"type": kind, name: value, **needed}))
    for value in (low - step, high + step):
        with pytest.raises(MessageError, match=f"`{name}` must lie in") as caught:
            decode(json.dumps({"type": kind, name: value, **needed}))
        assert (caught.value.detail.code, caught.value.detail.param) == ("invalid_value", name)


@pytest.mark.parametrize("name", ["lora", "music"])
def test_names_of_loras_and_music_have_a_length(name: str) -> None:
    decode(json.dumps({"type": "session.update", name: "n" * MAX_NAME_CHARACTERS}))
    decode(json.dumps({"type": "session.update", name: None}))
    for value in ("", "n" * (MAX_NAME_CHARACTERS + 1)):
        with pytest.raises(MessageError, match=f"`{name}`") as caught:
            decode(json.dumps({"type": "session.update", name: value, "event_id": "e1"}))
        assert (caught.value.detail.code, caught.value.detail.param) == ("invalid_value", name)
        assert caught.value.detail.event_id == "e1"


def test_an_id_has_visible_characters_and_a_length() -> None:
    decode(prompt(prompt_id="p" * MAX_ID_CHARACTERS))
    for value in ("", "a b", "日", "p" * (MAX_ID_CHARACTERS + 1)):
        with pytest.raises(MessageError, match="`prompt_id`") as caught:
            decode(prompt(prompt_id=value, event_id="e1"))
        assert (caught.value.detail.code, caught.value.detail.param) == ("invalid_value", "prompt_id")
        assert caught.value.detail.event_id == "e1"


def test_session_descriptions_and_candidates_may_hold_any_text() -> None:
    for kind, name in (("webrtc.offer", "sdp"), ("webrtc.candidate", "candidate")):
        for value in ("", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n" * 20):
            decode(json.dumps({"type": kind, name: value}))


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
    "name", ["", "ab", "a" * 41, "My-Show", "my_show", "my show", "s0123456789abcdef", "../etc", "a@b"]
)
def test_a_name_must_fit_into_an_address(name: str) -> None:
    with pytest.raises(MessageError, match="`name` must have") as caught:
        decode(json.dumps({"type": "session.start", "name": name, "event_id": "e1"}))
    detail = caught.value.detail
    assert (detail.code, detail.param, detail.event_id) == ("invalid_value", "name", "e1")
    for good in ("abc", "a" * 40, "my-show-2", "s0123456789abcde"):
        assert decode(json.dumps({"type": "session.start", "name": good})) == SessionStart(name=good)


def test_options_may_come_as_texts() -> None:
    query = {"frame_rate": "12", "transition_s": "0.25", "fresh": "true", "seed": "7", "name": "my-show"}
    expected = SessionStart(frame_rate=12, transition_s=0.25, fresh=True, seed=7, name="my-show")
    assert session_start(query) == expected
    assert session_start({}) == SessionStart()


@pytest.mark.parametrize(
    ("query", "code", "param", "says"),
    [
        ({"lora": "\ud83d"}, "invalid_text", "lora", "surrogate"),
        ({"colour": "red"}, "unknown_field", "colour", "`session.start` has no field `colour`"),
        ({"width": "wide"}, "wrong_type", "width", "^`width`: Expected `int`, got `str`$"),
        ({"width": "1e400"}, "invalid_value", "width", "out of range"),
        ({"width": "64"}, "invalid_value", "width", "128..1920"),
        ({"event_id": ""}, "invalid_value", "event_id", "visible ASCII"),
    ],
)
def test_a_wrong_option_is_named_as_in_a_message(query: dict[str, object], code: str, param: str, says: str) -> None:
    with pytest.raises(MessageError, match=says) as caught:
        session_start(query)
    assert (caught.value.detail.code, caught.value.detail.param) == (code, param)


def test_an_error_with_a_retry_time_is_retryable() -> None:
    assert not error_detail("no_session", "start first").retryable
    assert error_detail("no_session", "start first", retryable=True).retryable
    assert error_detail("no_session", "start first", retry_after_ms=0).retryable


def test_a_refusal_answers_the_message_that_asked() -> None:
    refused = Refused("rate_limited", "slower", param="text", event_id="e1", retry_after_ms=500)
    asked = decode('{"type":"session.ping","event_id":"e2"}')
    expected = error_detail("rate_limited", "slower", param="text", event_id="e1", retry_after_ms=500)
    assert refused.detail == expected
    assert refused.answer_to(asked.event_id) == msgspec.structs.replace(expected, event_id="e2")


def test_an_ice_server_leaves_out_missing_fields() -> None:
    """`RTCPeerConnection` would take null for the text "null"."""
    assert json.loads(msgspec.json.encode(IceServer(urls=("stun:a",)))) == {"urls": ["stun:a"]}
