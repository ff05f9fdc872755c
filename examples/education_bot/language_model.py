"""Answers from any language model behind an OpenAI-compatible HTTP interface. On the event loop.

It asks only the operator's URL, without redirects. An answer is a stranger's text, so it is cut and read as JSON.
"""

from __future__ import annotations

import asyncio
import json
import re

import aiohttp
import msgspec

from examples.education_bot.answers import MAX_QUESTION_CHARACTERS, Reply, is_for_children, language_of

TIMEOUT_S = 15.0
MAX_ANSWER_BYTES = 64 * 1024
MAX_TEXT_CHARACTERS, MAX_SCENE_CHARACTERS = 800, 300

_TASK = """You answer questions of children of about eight years. Reply with one JSON object and nothing else:
{"answer": "two or three short, true, friendly sentences in the language of the question",
 "scene": "what a short film about it shows, in at most thirty English words"}
If the question is not fit for a child, say so kindly in "answer" and leave "scene" empty."""
_SIMPLE = """
The film maker knows only: beach, sea, mountains, forest, city, erupting volcano, underwater, space; day, sunset, night,
dawn; sailboat, bird, fish, rocket, car, dog, hot-air balloon, dancer; red, blue, yellow, green, purple, white.
Choose the closest, as in "a rocket in space" or "a volcano at night"."""


class LanguageModelError(Exception):
    """There is no usable answer; the message is for the operator."""


class _Message(msgspec.Struct):
    content: str


class _Choice(msgspec.Struct):
    message: _Message


class _Completion(msgspec.Struct):
    choices: list[_Choice]


class _Answer(msgspec.Struct):
    answer: str
    scene: str | None = None


class LanguageModel:
    """One model at one address, as `http://127.0.0.1:11434/v1`. Keep `session` open while it is used."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, model: str, key: str | None, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._session = session
        self._url = url.rstrip("/") + "/chat/completions"
        self._model = model
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout_s = timeout_s

    async def reply(self, question: str, *, is_simple: bool) -> Reply:
        """Raises `LanguageModelError`."""
        body = {
            "model": self._model,
            "messages": [
                {"role": "system", "content": _TASK + (_SIMPLE if is_simple else "")},
                {"role": "user", "content": question[:MAX_QUESTION_CHARACTERS]},
            ],
            "max_tokens": 400,
        }
        try:
            async with asyncio.timeout(self._timeout_s):
                text = await self._ask(body)
        except TimeoutError:
            raise LanguageModelError(f"no answer within {self._timeout_s:g} s") from None
        except aiohttp.ClientError as error:
            raise LanguageModelError(f"cannot be reached: {error}") from None
        return _read(text, language_of(question))

    async def _ask(self, body: object) -> bytes:
        request = self._session.post(self._url, json=body, headers=self._headers, allow_redirects=False)
        async with request as response:
            content = bytearray()
            async for piece in response.content.iter_any():
                content += piece
                if len(content) > MAX_ANSWER_BYTES:
                    raise LanguageModelError(f"answers with more than {MAX_ANSWER_BYTES} bytes")
            if response.status != 200:
                raise LanguageModelError(f"answers with HTTP {response.status}")
            return bytes(content)


def _read(content: bytes, language: str) -> Reply:
    try:
        text = msgspec.json.decode(content, type=_Completion).choices[0].message.content
        # Many models wrap JSON in a fence, or talk before it.
        found = re.search(r"\{.*\}", text, re.DOTALL)
        answer = msgspec.convert(json.loads(found.group() if found else ""), _Answer)
    except (ValueError, IndexError, RecursionError) as error:
        raise LanguageModelError(f"does not answer as asked: {error}") from None
    spoken, scene = answer.answer.strip()[:MAX_TEXT_CHARACTERS], " ".join((answer.scene or "").split())
    if not spoken:
        raise LanguageModelError("answers with an empty text")
    if not is_for_children(spoken + " " + scene):
        raise LanguageModelError("answers with a text that is not for children")
    return Reply(spoken, scene[:MAX_SCENE_CHARACTERS] or None)
