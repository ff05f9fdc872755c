"""What is written twice is the same: texts in English and Chinese, and those that a page asks for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[3] / "client_web"


def texts_in(script: str) -> list[tuple[str, str, str]]:
    pattern = r'^  "([\w.]+)": \[\s*"((?:[^"\\]|\\.)*)",\s*"((?:[^"\\]|\\.)*)",?\s*\]'
    return re.findall(pattern, (CLIENT / script).read_text(), re.M)


TEXTS = texts_in("shared/i18n.js")
STUDIO_TEXTS = texts_in("studio/texts.js")
PUSH_TEXTS = texts_in("console/pushes.js")  # loaded later, with its texts


def test_every_text_exists_in_both_languages_with_the_same_blanks() -> None:
    assert len(TEXTS) > 80
    assert len(STUDIO_TEXTS) > 60
    assert len(PUSH_TEXTS) > 10
    for key, english, chinese in TEXTS + STUDIO_TEXTS + PUSH_TEXTS:
        assert english and chinese, key
        assert set(re.findall(r"{\w+}", english)) == set(re.findall(r"{\w+}", chinese)), key


@pytest.mark.parametrize("folder", ["console", "studio"])
def test_every_text_that_a_page_asks_for_exists(folder: str) -> None:
    keys = {key for key, _, _ in TEXTS + (STUDIO_TEXTS if folder == "studio" else [])}
    page = (CLIENT / folder / "index.html").read_text()
    asked = set(re.findall(r'data-i18n(?:-label|-placeholder)?="([\w.]+)"', page))
    for script in (CLIENT / folder).rglob("*.js"):
        own = {key for key, _, _ in PUSH_TEXTS} if script.name == "pushes.js" else set()
        asked |= set(re.findall(r'\bt\("([\w.]+)"', script.read_text())) - own
    assert asked - keys == set()
