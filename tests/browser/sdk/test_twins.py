"""Texts that are written twice agree: each language has the same ones, and all that a page asks for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[3] / "client_web"
LANGUAGES = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((CLIENT / "texts").glob("*.json"))}
ENGLISH: dict[str, str] = LANGUAGES["en"]


def asked_in(folder: Path) -> set[str]:
    asked = set()
    for page in folder.rglob("*.html"):
        text = page.read_text("utf-8")
        asked |= set(re.findall(r'data-(?:i18n(?:-label|-placeholder)?|title)="([\w.]+)"', text))
    for script in folder.rglob("*.js"):
        asked |= set(re.findall(r'\bt\("([\w.]+)"', script.read_text("utf-8")))
    return asked


def test_every_language_is_offered() -> None:
    offered = re.search(r"LANGUAGES = Object.freeze\(\{(.*?)\}\)", (CLIENT / "shared" / "i18n.js").read_text("utf-8"))
    assert offered is not None
    assert set(re.findall(r"(\w+): \[", offered[1])) == set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_each_text_with_the_same_blanks(language: str) -> None:
    texts = LANGUAGES[language]
    assert list(texts) == list(ENGLISH)
    for key, text in texts.items():
        assert text, key
        assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", ENGLISH[key])), key


@pytest.mark.parametrize("folder", ["console", "studio", "shared"])
def test_every_text_that_a_page_asks_for_exists(folder: str) -> None:
    assert asked_in(CLIENT / folder) - set(ENGLISH) == set()
