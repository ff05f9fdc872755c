"""The rules of fields, and that a field's type carries its rule: into decoding, and into JSON Schema."""

from __future__ import annotations

import msgspec
import pytest

from server.protocol.decoding import _rules
from server.protocol.fields import FILE_NAME, ID, STAGE_NAME, Pattern, Prompt, Range, Rule, held_to
from server.protocol.messages import PromptSet, SessionPing, SessionStart, WebrtcCandidate


@pytest.mark.parametrize("rule", [Range(0, 1), ID, Prompt()], ids=["range", "pattern", "prompt"])
def test_a_type_that_is_held_to_a_rule_carries_it_and_its_schema(rule: Rule) -> None:
    meta = held_to(rule)
    assert meta.extra == {"rule": rule} and meta.extra_json_schema == rule.schema


def test_decoding_finds_the_rules_in_a_messages_types() -> None:
    assert _rules(SessionPing) == {"event_id": ID}
    assert _rules(PromptSet)["text"] == Prompt()
    assert _rules(WebrtcCandidate).keys() == {"event_id", "sdp_mid", "sdp_mline_index"}
    found = _rules(SessionStart)
    assert (found["name"], found["lora"], found["width"]) == (STAGE_NAME, FILE_NAME, Range(128, 1920, is_even=True))
    assert "quality" not in found


def test_a_pattern_without_an_exception_excludes_nothing() -> None:
    rule = Pattern("[a-zA-Z]*", "letters")
    assert rule.allows("XXXX") and rule.allows("") and rule.schema == {"pattern": "^[a-zA-Z]*$"}


def test_a_patterns_exception_is_no_match_and_is_in_the_schema() -> None:
    rule = Pattern("[a-z]+", "letters", unless="no")
    assert [rule.allows(value) for value in ("yes", "no", "nod")] == [True, False, True]
    assert rule.schema == {"pattern": "^(?!no$)[a-z]+$"}


def test_a_schema_has_the_ends_of_a_range_and_the_lengths_of_a_prompt() -> None:
    schema = msgspec.json.schema(SessionStart)["$defs"]["SessionStart"]["properties"]
    assert schema["width"].items() >= {"minimum": 128, "maximum": 1920, "multipleOf": 2}.items()
    assert schema["frame_rate"].items() >= {"minimum": 5, "maximum": 60}.items()
    assert Prompt().schema == {"minLength": 1, "maxLength": 2000}
