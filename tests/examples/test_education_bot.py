"""The education bot without a browser: its answers, their sources, its refusals. `tests/browser` has its page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from engine.embedded.reading import read
from engine.synthetic import Script, SyntheticEngine
from examples.education_bot.answers import reply, subject_of, topics
from examples.education_bot.app import Bot
from examples.education_bot.language_model import LanguageModel
from sceneshift.address import Address
from server import app as server_app
from server.config import Settings
from server.doors.http_api import HttpApi

TOKEN = "0123456789abcdef0123"


# --- the template -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question, scene",
    [
        ("火山是怎么喷发的?", "volcano"),
        ("how does a volcano erupt?", "volcano"),
        ("How do fish breathe in the sea?", "fish"),
        ("鱼怎么在海里呼吸", "fish"),
    ],
)
def test_a_known_question_gets_its_answer_in_its_language_and_its_scene(question: str, scene: str) -> None:
    given = reply(question, is_simple=True)
    assert given.scene is not None and scene in read(given.scene).concepts
    assert given.text.isascii() == question.isascii()
    assert given.text.startswith(given.caption) and len(given.caption) < len(given.text)


def test_an_answer_that_does_not_fit_the_question_says_so() -> None:
    given = reply("Is there a unicorn in the forest?", is_simple=True)
    assert given.caption == "I do not know that, but I know this."
    assert given.scene is not None and "forest" in given.scene


def test_the_embedded_model_knows_every_simple_scene() -> None:
    assert len(topics()) >= 12
    for topic in topics():
        assert read(topic.simple).not_understood == (), topic.simple
        assert reply(f"{topic.words[0]}?", is_simple=True).scene == topic.simple
        assert reply(f"{topic.words[0]}?", is_simple=False).scene == topic.rich


@pytest.mark.parametrize(
    "question, subject",
    [
        ("How does photosynthesis work?", "photosynthesis work"),
        ("what is a glacier", "glacier"),
        ("什么是冰川?", "冰川"),
        ("why?", "why?"),
    ],
)
def test_an_unknown_question_becomes_a_scene_of_its_subject(question: str, subject: str) -> None:
    assert subject_of(question) == subject
    assert reply(question, is_simple=True).scene == subject


@pytest.mark.parametrize("question", ["How do I make a bomb?", "怎么杀人", "   "])
def test_a_question_not_for_children_gets_a_kind_answer_and_no_scene(question: str) -> None:
    given = reply(question, is_simple=True)
    assert given.scene is None and given.text


# --- on the real server -------------------------------------------------------------------------------------------


class FakeModel:
    """An OpenAI-compatible language model with the test's answers."""

    def __init__(self) -> None:
        self.content: Any = json.dumps({"answer": "It melts. Then it flows.", "scene": "a glacier 7"})
        self.status = 200
        self.is_silent = False
        self.asked: list[Any] = []
        self.headers: list[Any] = []

    async def complete(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        self.headers.append(request.headers.get("Authorization"))
        if self.is_silent:
            await asyncio.Event().wait()
        if self.status != 200:
            raise web.HTTPFound("/elsewhere") if self.status == 302 else web.HTTPInternalServerError
        return web.json_response({"choices": [{"message": {"role": "assistant", "content": self.content}}]})


class Classroom:
    """The bot on the real server, and pages without a browser."""

    def __init__(self, http: aiohttp.ClientSession, model: FakeModel, stack: AsyncExitStack) -> None:
        self.http, self.model, self._stack = http, model, stack

    async def page(self, **options: Any) -> aiohttp.ClientWebSocketResponse:
        return await self._stack.enter_async_context(self.http.ws_connect("/chat", **options))


async def hear(page: aiohttp.ClientWebSocketResponse, kind: str, **fields: Any) -> dict[str, Any]:
    """The next message of this kind with these fields."""
    while True:
        message: dict[str, Any] = await page.receive_json()
        if message["type"] == kind and fields.items() <= message.items():
            return message


async def served(app: web.Application, stack: AsyncExitStack) -> str:
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"


@pytest.fixture
async def classroom(request: pytest.FixtureRequest) -> AsyncIterator[Classroom]:
    has_model = getattr(request, "param", False)
    async with AsyncExitStack() as stack:
        app = server_app.build(Settings(token=TOKEN), SyntheticEngine(Script(step_s=0.01, decode_s=0.01)))
        port = await stack.enter_async_context(server_app.running(app, server_app.listen("127.0.0.1", 0)))
        fake = FakeModel()
        model_app = web.Application()
        model_app.router.add_post("/v1/chat/completions", fake.complete)
        model_url = await served(model_app, stack)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        model = LanguageModel(http, f"{model_url}/v1", "tiny", "key", timeout_s=0.2) if has_model else None
        bot = Bot(Address(f"http://127.0.0.1:{port}", TOKEN), language_model=model, max_pages=2)
        url = await served(bot.application(), stack)
        pages = await stack.enter_async_context(aiohttp.ClientSession(url))
        yield Classroom(pages, fake, stack)


async def test_a_question_is_answered_and_its_scene_is_on_air(classroom: Classroom) -> None:
    page = await classroom.page()
    await hear(page, "stage")
    await page.send_json({"ask": "How does a volcano erupt?"})
    answer = await hear(page, "answer")
    assert "melts" in answer["text"] and answer["caption"] and answer["note"] == ""
    assert "volcano" in (await hear(page, "words"))["understood"]
    await hear(page, "on_air", on_air="clip")
    await hear(page, "scene", state="applied", number=answer["number"])


async def test_the_newest_question_wins_and_nonsense_costs_nothing(classroom: Classroom) -> None:
    page = await classroom.page()
    await hear(page, "stage")
    for text in ("[", "[" * 8000, "{}", json.dumps({"ask": 3}), json.dumps({"ask": "x" * 301})):
        await page.send_str(text)
        await hear(page, "error")
    await page.send_json({"ask": "火山"})
    await page.send_json({"ask": "火箭"})
    assert (await hear(page, "scene", state="applied"))["number"] == 2


async def test_the_token_opens_the_bots_own_stages_only(classroom: Classroom) -> None:
    page = await classroom.page()
    session_id = (await hear(page, "stage"))["session_id"]
    headers = {"Content-Type": "application/sdp"}
    async with classroom.http.post(f"/whep/{session_id}", data="v=0", headers=headers) as answer:
        assert (await answer.json())["error"]["code"] == "no_video", "forwarded, with the token"
    async with classroom.http.post("/whep/another", data="v=0", headers=headers) as answer:
        assert answer.status == 404
    async with classroom.http.get("/chat", headers={"Origin": "http://evil.example"}) as answer:
        assert answer.status == 403


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize(
    "path",
    [
        "..%2f..%2fv1%2frealtime%2fcalls%2fcall_1",
        "%2e%2e%2f%2e%2e%2fwhep%2fanother%2fviewer_0123456789ab",
        "..%2fanother%2fviewer_0123456789ab",
        "viewer_0123%2f..%2f..",
        "viewer_zz",
    ],
)
async def test_the_token_opens_no_other_address_of_the_server(
    classroom: Classroom, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    asked: list[str] = []
    guarded = HttpApi._guarded

    async def watched(self: HttpApi, request: web.Request, handler: Any) -> web.StreamResponse:
        asked.append(request.rel_url.raw_path)
        return await guarded(self, request, handler)

    monkeypatch.setattr(HttpApi, "_guarded", watched)
    page = await classroom.page()
    session_id = (await hear(page, "stage"))["session_id"]
    asked.clear()
    url = classroom.http._base_url
    assert url is not None
    address = URL(f"{url}/whep/{session_id}/{path}".replace("//whep", "/whep"), encoded=True)
    async with classroom.http.request(method, address, data="") as answer:
        assert answer.status == 404
    assert asked == []
    async with classroom.http.request(method, f"/whep/{session_id}/viewer_0123456789ab", data="") as answer:
        assert answer.status in (404, 415)
    assert asked == [f"/whep/{session_id}/viewer_0123456789ab"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8090", 200),
        ("[::1]:8090", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("[::1", 403),
    ],
)
async def test_on_loopback_the_bot_answers_to_names_of_this_machine_only(
    classroom: Classroom, host: str, status: int
) -> None:
    async with classroom.http.get("/", headers={"Host": host}) as answer:
        assert answer.status == status


async def test_behind_a_proxy_the_bot_answers_to_the_names_that_were_given() -> None:
    async with AsyncExitStack() as stack:
        for bot, status in (
            (Bot(Address("http://127.0.0.1:1"), allowed_hosts=("class.example",)), 200),
            (Bot(Address("http://127.0.0.1:1"), host="0.0.0.0"), 200),
            (Bot(Address("http://127.0.0.1:1"), host="::1"), 403),
        ):
            url = await served(bot.application(), stack)
            async with aiohttp.request("GET", url, headers={"Host": "class.example:8443"}) as answer:
                assert answer.status == status


async def test_a_page_without_room_is_told_so(classroom: Classroom) -> None:
    for _ in range(2):
        await hear(await classroom.page(), "stage")
    await hear(await classroom.page(), "full")


@pytest.mark.parametrize("classroom", [True], indirect=True)
async def test_a_language_model_answers(classroom: Classroom) -> None:
    page = await classroom.page()
    await hear(page, "stage")
    await page.send_json({"ask": "What is a glacier?"})
    answer = await hear(page, "answer")
    assert (answer["text"], answer["caption"], answer["scene"]) == (
        "It melts. Then it flows.",
        "It melts.",
        "a glacier 7",
    )
    await hear(page, "scene", state="applied")
    asked = classroom.model.asked[0]
    assert asked["model"] == "tiny" and asked["messages"][1] == {"role": "user", "content": "What is a glacier?"}
    assert classroom.model.headers == ["Bearer key"]


@pytest.mark.parametrize("classroom", [True], indirect=True)
@pytest.mark.parametrize(
    "trouble",
    [
        {"content": "I would rather chat."},
        {"content": '{"answer": ""}'},
        {"content": '{"answer": "take a gun", "scene": "a gun"}'},
        {"content": "x" * 100_000},
        {"content": None},
        {"status": 500},
        {"status": 302},
        {"is_silent": True},
    ],
    ids=lambda trouble: next(iter(trouble)),
)
async def test_if_the_language_model_fails_the_template_answers_with_a_note(
    classroom: Classroom, trouble: dict[str, Any]
) -> None:
    for name, value in trouble.items():
        setattr(classroom.model, name, value)
    page = await classroom.page()
    await hear(page, "stage")
    await page.send_json({"ask": "火山是怎么喷发的?"})
    answer = await hear(page, "answer")
    assert answer["note"] == "no_language_model" and "岩浆" in answer["text"]


@pytest.mark.parametrize("classroom", [True], indirect=True)
async def test_a_fenced_answer_is_read_and_an_empty_scene_draws_nothing(classroom: Classroom) -> None:
    classroom.model.content = 'Sure!\n```json\n{"answer": "Ask your parents.", "scene": ""}\n```'
    page = await classroom.page()
    await hear(page, "stage")
    await page.send_json({"ask": "Where do babies come from?"})
    assert await hear(page, "answer", note="", scene=None)
