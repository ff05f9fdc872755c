"""The bot's own web server: the page, a WebSocket for each child's chat, and a proxy for the picture.

Each page has its own stage while it is open. Browsers speak to this server only. It forwards offers for the picture
(WHEP) and its fallback to Sceneshift, with the access token, which no page ever sees. On one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import WSMsgType, web
from aiohttp.typedefs import Handler, Middleware

from examples.education_bot.answers import MAX_QUESTION_CHARACTERS, Reply, is_for_children, reply
from examples.education_bot.language_model import LanguageModel, LanguageModelError
from sceneshift import Pace, Prompt, SceneshiftError, Session, connect
from sceneshift.address import Address
from sceneshift.events import ProgramChanged, PromptStarted, SessionCreated, type_of

_log = logging.getLogger(__name__)

PAGE_FOLDER = Path(__file__).parent / "page"
CLIENT_FOLDER = Path(__file__).parent.parent.parent / "client_web"
MAX_PAGES = 8
PATIENCE_S = 30.0
MAX_BODY_BYTES = 256 * 1024
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; media-src 'self' blob:; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Bot:
    """The application. It asks `language_model` first, if there is one; otherwise the template answers."""

    def __init__(
        self,
        server: Address,
        *,
        language_model: LanguageModel | None = None,
        max_pages: int = MAX_PAGES,
        pace: Pace | None = None,
        host: str = "127.0.0.1",
        allowed_hosts: Collection[str] = (),
    ) -> None:
        """`host` is the address that the page is served on, and `allowed_hosts` are its other names, as of a proxy."""
        self._server = server
        self._answers_to_all = not _is_this_machine(f"[{host}]" if ":" in host else host)
        self._allowed_hosts = frozenset(allowed_hosts)
        self._language_model = language_model
        self._max_pages = max_pages
        self._pace = pace
        self._chats: set[Chat] = set()

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._guard()])
        app.router.add_get("/", self._page)
        app.router.add_static("/page/", PAGE_FOLDER)
        app.router.add_static("/client/", CLIENT_FOLDER)
        app.router.add_get("/chat", self._chat)
        app.router.add_post("/whep/{session_id}", self._hand_on)
        # The server's own form. With the name of any other address here, our token would open that address.
        viewer = r"/whep/{session_id}/{viewer_id:viewer_[0-9a-f]+}"
        app.router.add_route("PATCH", viewer, self._hand_on)
        app.router.add_delete(viewer, self._hand_on)
        app.router.add_get("/v1/sessions/{session_id}/watch", self._watch)
        app.cleanup_ctx.append(self._with_http)
        app.on_response_prepare.append(_set_headers)
        app.on_shutdown.append(self._close)
        return app

    def _guard(self) -> Middleware:
        """Refuses foreign names of this machine, which a page of another site may have given it (DNS rebinding)."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            host = request.headers.get("Host", "")
            if not (self._answers_to_all or _is_this_machine(host) or _hostname(host) in self._allowed_hosts):
                raise web.HTTPForbidden(text="this bot answers to names of this machine only; see --allowed-hosts")
            return await handler(request)

        return guard

    async def _with_http(self, app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(headers=self._server.headers) as self._http:
            yield

    async def _close(self, app: web.Application) -> None:
        await asyncio.gather(*(chat.close() for chat in list(self._chats)))

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE_FOLDER / "index.html")

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        # A page of another site must not run stages here in its visitor's name.
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("Host"):
            raise web.HTTPForbidden(text="pages of other sites may not connect")
        socket = web.WebSocketResponse(max_msg_size=16 * 1024, heartbeat=20.0)
        await socket.prepare(request)
        if len(self._chats) >= self._max_pages:
            await socket.send_json({"type": "full"})
            await socket.close()
            return socket
        chat = Chat(socket, self._reply)
        self._chats.add(chat)
        try:
            await chat.run(self._server, self._pace)
        finally:
            self._chats.discard(chat)
        return socket

    async def _reply(self, question: str, *, is_simple: bool) -> Reply:
        """From the language model, or from the template with a note that the model failed."""
        if self._language_model is None or not is_for_children(question) or not question.strip():
            return reply(question, is_simple=is_simple)
        try:
            return await self._language_model.reply(question, is_simple=is_simple)
        except LanguageModelError as error:
            _log.warning("- ! the language model %s", error)
            template = reply(question, is_simple=is_simple)
            return Reply(template.text, template.scene, note="no_language_model")

    # --- the picture ----------------------------------------------------------------------------------------------

    def _check_session(self, request: web.Request) -> None:
        """Allows only our own stages, because our token must open nothing else."""
        if request.match_info["session_id"] not in {chat.session_id for chat in self._chats}:
            raise web.HTTPNotFound(text="there is no such stage here")

    async def _hand_on(self, request: web.Request) -> web.StreamResponse:
        """Forwards a viewer's offer, its candidates and its end."""
        self._check_session(request)
        parts = ("whep", *request.match_info.values())
        kept = {name: request.headers[name] for name in ("Content-Type", "If-Match") if name in request.headers}
        body = await request.read()
        url = "/".join((self._server.base, *parts))
        try:
            async with self._http.request(request.method, url, data=body, headers=kept) as answer:
                headers = {
                    name: value
                    for name in ("Content-Type", "Location", "ETag", "Retry-After")
                    if (value := answer.headers.get(name)) is not None
                }
                passed = web.Response(status=answer.status, body=await answer.read(), headers=headers)
                for link in answer.headers.getall("Link", ()):
                    passed.headers.add("Link", link)
                return passed
        except aiohttp.ClientError:
            raise web.HTTPBadGateway(text="the Sceneshift server is away") from None

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        """The picture over WebSocket, for browsers that UDP does not reach."""
        self._check_session(request)
        session_id = request.match_info["session_id"]
        url = f"{self._server.base.replace('http', 'ws', 1)}/v1/sessions/{session_id}/watch"
        page = web.WebSocketResponse(compress=False)
        try:
            async with self._http.ws_connect(url, max_msg_size=0) as server:
                await page.prepare(request)
                async for frame in server:
                    if frame.type is WSMsgType.BINARY:
                        await page.send_bytes(frame.data)
                    elif frame.type is WSMsgType.TEXT:
                        await page.send_str(frame.data)
                await page.close(code=server.close_code or 1001)
        except aiohttp.WSServerHandshakeError as error:
            raise web.HTTPBadGateway(text=f"the Sceneshift server answers with HTTP {error.status}") from None
        except (aiohttp.ClientError, ConnectionError, RuntimeError):
            _log.info("- x a watcher left")
        return page


class Chat:
    """One page: its chat and its stage."""

    def __init__(self, socket: web.WebSocketResponse, reply: Callable[..., Any]) -> None:
        self._socket = socket
        self._reply = reply
        self._session: Session | None = None
        self._asking: asyncio.Task[None] | None = None
        self._number = 0

    @property
    def session_id(self) -> str | None:
        return None if self._session is None else self._session.session_id

    async def close(self) -> None:
        await self._socket.close(code=1001)

    async def run(self, server: Address, pace: Pace | None) -> None:
        """Runs until the page leaves, then closes its stage."""
        holding = asyncio.create_task(self._hold_stage(server, pace), name="education-stage")
        try:
            async for frame in self._socket:
                if frame.type is WSMsgType.TEXT:
                    await self._receive(frame.data)
        finally:
            if self._asking is not None:
                await _stop(self._asking)
            await _stop(holding)

    async def _hold_stage(self, server: Address, pace: Pace | None) -> None:
        """Opens the stage and tells the page of its events, also while it waits for room."""
        opening = connect(server.base, server.token, patience_s=PATIENCE_S, on_queued=self._queued, pace=pace)
        try:
            async with opening as session:
                self._session = session
                await self._listen(session)
        except SceneshiftError as error:
            _log.warning("- ! no stage for a page: %s", error)
            await self._say({"type": "no_stage"})
            await self._socket.close()

    async def _receive(self, text: str) -> None:
        try:
            message = json.loads(text)
            question = message["ask"]
        except (ValueError, TypeError, KeyError, RecursionError):
            question = None
        if not isinstance(question, str) or not question.strip() or len(question) > MAX_QUESTION_CHARACTERS:
            problem = f"expected `ask`, a question of 1 to {MAX_QUESTION_CHARACTERS} characters"
            await self._say({"type": "error", "message": problem})
            return
        if self._session is None:
            await self._say({"type": "error", "message": "wait for `stage`"})
            return
        if self._asking is not None:
            await _stop(self._asking)  # the newest question wins
        self._number += 1
        self._asking = asyncio.create_task(self._ask(self._session, question, self._number), name="education-question")

    async def _ask(self, session: Session, question: str, number: int) -> None:
        model = session.created.model
        is_simple = model is None or model.get("name") == "embedded"
        answer = await self._reply(question, is_simple=is_simple)
        told = {"type": "answer", "number": number, "text": answer.text, "caption": answer.caption, "note": answer.note}
        await self._say({**told, "scene": answer.scene})
        if answer.scene is None:
            return
        try:
            prompt = await session.prompt(answer.scene)
            await self._follow(prompt, number)
        except SceneshiftError as error:
            _log.warning("%s ! a scene was not made: %s", session.session_id, error)
            await self._say({"type": "scene", "number": number, "state": "failed"})

    async def _follow(self, prompt: Prompt, number: int) -> None:
        """Tells the page the state of its scene. A newer question cancels this."""
        await prompt.accepted
        await self._say({"type": "scene", "number": number, "state": "making"})
        end = await prompt.ended
        await self._say({"type": "scene", "number": number, "state": type_of(end).removeprefix("prompt.")})

    async def _listen(self, session: Session) -> None:
        """Tells the page where to watch, what is on air, and what the model understood."""
        async for event in session.events():
            match event:
                case SessionCreated():
                    await self._say({"type": "stage", "session_id": event.session_id})
                case ProgramChanged():
                    await self._say({"type": "on_air", "on_air": event.on_air})
                case PromptStarted():
                    words = {"understood": event.understood, "not_understood": event.not_understood}
                    await self._say({"type": "words", "number": self._number, **words})

    def _queued(self, event: Any) -> None:
        # Called on the same loop while `connect` waits, so the page is told a moment later.
        self._telling = asyncio.ensure_future(self._say({"type": "queued", "position": event.position}))

    async def _say(self, message: dict[str, Any]) -> None:
        # The reader notices a page that leaves.
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self._socket.send_json(message)


def _is_this_machine(netloc: str) -> bool:
    try:
        return Address(f"http://{netloc}").is_this_machine
    except ValueError:
        return False


def _hostname(netloc: str) -> str | None:
    try:
        return urlsplit(f"//{netloc}").hostname
    except ValueError:
        return None


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _set_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
