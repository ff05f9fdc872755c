"""Splits an English or Chinese text into the concepts that the embedded model knows and the words that it does not.

Training captions and prompts on stage use the same code. Matching is longest phrase first: English by whole words (case
and plurals ignored), Chinese by substring, in one pass from left to right. Filler words ("show me", 给我) vanish;
`reading` decides what the concepts mean together. Pure Python without torch, any thread. It accepts any text, in time
linear in its length.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

from engine.embedded.lexicon_words import CHINESE, CHINESE_FILLER, ENGLISH, ENGLISH_FILLER
from engine.embedded.places import NUM_COLUMNS, NUM_ROWS
from engine.embedded.spec import CAMERAS, COLOURS, DIRECTIONS, NUM_LAYOUTS, PALETTES, SCENES, SUBJECTS, TIMES, WEATHERS

MAX_CHARACTERS = 2000
MAX_TOKENS = 16
PAD, UNK = "<pad>", "<unk>"
# No prompt names these tokens. They complete a prompt: a clip without a subject, and the arrangement of its scene.
ALONE = "alone"
LAYOUTS = tuple(f"layout-{layout}" for layout in range(NUM_LAYOUTS))
# Subject and direction in one token: left and right have nothing in common for a dog and a rocket. With a token of its
# own, the model did not learn the direction in a hundred thousand pictures.
FACINGS: dict[tuple[str, str], str] = {
    (subject, direction): f"{subject}-{direction}" for subject in SUBJECTS for direction in DIRECTIONS
}
# The subject's place. Scene, layout and subject imply it together, but a model learns such a rule of three slowly.
COLUMNS = tuple(f"column-{column}" for column in range(NUM_COLUMNS))
ROWS = tuple(f"row-{row}" for row in range(NUM_ROWS))
# The order is the model's embedding table: append only.
VOCABULARY: tuple[str, ...] = (
    PAD,
    UNK,
    *SCENES,
    *TIMES,
    *WEATHERS,
    *SUBJECTS,
    *COLOURS,
    *DIRECTIONS,
    *CAMERAS,
    *PALETTES,
    ALONE,
    *LAYOUTS,
    *FACINGS.values(),
    *COLUMNS,
    *ROWS,
)
VOCABULARY_SIZE = 128
TOKEN_IDS: dict[str, int] = {token: index for index, token in enumerate(VOCABULARY)}
UNK_ID = TOKEN_IDS[UNK]


@dataclass(frozen=True, slots=True)
class Word:
    """A word or phrase of a text: `concept` is None if the lexicon does not know it."""

    concept: str | None
    surface: str


_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
_FILLER = ""


def hear(text: str) -> tuple[Word, ...]:
    """The words of a text without fillers, in order. Reads at most `MAX_CHARACTERS`; never raises on any text."""
    text = unicodedata.normalize("NFKC", text[:MAX_CHARACTERS]).lower().replace("’", "'")
    words: list[Word] = []
    for is_han, run in _runs(text):
        for concept, surface in _read_chinese(run) if is_han else _read_english(run):
            if concept != _FILLER:
                words.append(Word(None if concept == UNK else concept, surface))
    return tuple(words)


def _runs(text: str) -> list[tuple[bool, str]]:
    """The text as runs of Han characters and runs of anything else."""
    runs: list[tuple[bool, str]] = []
    end = 0
    for match in _HAN.finditer(text):
        if match.start() > end:
            runs.append((False, text[end : match.start()]))
        runs.append((True, match.group()))
        end = match.end()
    if end < len(text):
        runs.append((False, text[end:]))
    return runs


def _read_english(run: str) -> list[tuple[str, str]]:
    phrases, longest = _english_phrases()
    words = [part for word in _WORD.findall(run) for part in _split_hyphens(word)]
    read: list[tuple[str, str]] = []
    at = 0
    while at < len(words):
        for length in range(min(longest, len(words) - at), 0, -1):
            phrase = " ".join(words[at : at + length])
            concept = phrases.get(phrase)
            if concept is None:
                concept = next((phrases[base] for base in _singulars(phrase) if base in phrases), None)
            if concept is not None:
                read.append((concept, phrase))
                at += length
                break
        else:
            read.append((_FILLER if words[at].isdigit() else UNK, words[at]))
            at += 1
    return read


def _split_hyphens(word: str) -> list[str]:
    return [part for part in word.split("-") if part]


def _singulars(phrase: str) -> tuple[str, ...]:
    if phrase.endswith("'s"):
        return (phrase[:-2],)
    if phrase.endswith("ies"):
        return (phrase[:-3] + "y", phrase[:-1])
    if phrase.endswith("ves"):
        return (phrase[:-3] + "f", phrase[:-1])
    if phrase.endswith("es"):
        return (phrase[:-1], phrase[:-2])
    if phrase.endswith("s"):
        return (phrase[:-1],)
    return ()


def _read_chinese(run: str) -> list[tuple[str, str]]:
    phrases, longest = _chinese_phrases()
    read: list[tuple[str, str]] = []
    unknown = ""
    at = 0
    while at < len(run):
        for length in range(min(longest, len(run) - at), 0, -1):
            concept = phrases.get(run[at : at + length])
            if concept is not None:
                if unknown:
                    read.append((UNK, unknown))
                    unknown = ""
                read.append((concept, run[at : at + length]))
                at += length
                break
        else:
            unknown += run[at]
            at += 1
    if unknown:
        read.append((UNK, unknown))
    return read


@cache
def _english_phrases() -> tuple[dict[str, str], int]:
    phrases = {" ".join(_split_hyphens_all(filler)): _FILLER for filler in ENGLISH_FILLER.split(",")}
    for concept, synonyms in ENGLISH.items():
        for phrase in synonyms.split(","):
            phrases[" ".join(_split_hyphens_all(phrase))] = concept
    return phrases, max(phrase.count(" ") + 1 for phrase in phrases)


def _split_hyphens_all(phrase: str) -> list[str]:
    return [part for word in _WORD.findall(phrase.lower()) for part in _split_hyphens(word)]


@cache
def _chinese_phrases() -> tuple[dict[str, str], int]:
    phrases = dict.fromkeys(CHINESE_FILLER.split(), _FILLER)
    for concept, synonyms in CHINESE.items():
        phrases.update(dict.fromkeys(synonyms.split(), concept))
    return phrases, max(len(phrase) for phrase in phrases)
