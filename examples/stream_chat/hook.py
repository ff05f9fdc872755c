"""Any other chat, by HTTP: `POST /chat` with one line as JSON; and the moderator's page. aiohttp, on the event loop.

A sender proves that it knows the secret: with ``Authorization: Bearer SECRET``, or with ``X-Time: UNIX`` and
``X-Signature: sha256=HEX``. That is the HMAC-SHA-256 of the time, a dot and the body under the secret, which keeps the
secret off the wire. Who overhears a signed line cannot send it again: it counts once, and for five minutes.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from examples.stream_chat.lines import ChatLine

MAX_BODY_BYTES = 16 * 1024
MAX_MODERATORS = 8
# How far the clocks of sender and bot may differ, and how long a signed line may take.
SIGNED_FOR_S = 300.0
# Signed lines that are remembered until they are too old, 33 a second; the bot refuses more.
MAX_SIGNED = 10_000
SECRET_TIMEOUT_S = 10.0
FOLDER = Path(__file__).parent
CLIENT_FOLDER = FOLDER.parent.parent / "client_web"
_UNIX_TIME = re.compile(r"\d{1,12}", re.ASCII)
_PAGE = {"/": "moderate.html", "/moderate.js": "moderate.js", "/moderate.css": "moderate.css"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class HookLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /chat`."""

    user: str
    text: str
    is_moderator: bool = False


class Hook:
    """The routes. `hear` gives the replies to a line, `moderate` decides about a wish, `state` is for the page."""

    def __init__(
        self,
        secret: str,
        *,
        hear: Callable[[ChatLine], Awaitable[list[str]]],
        moderate: Callable[[str, int], Awaitable[None]],
        state: Callable[[], dict[str, Any]],
        unix_time: Callable[[], float] = time.time,
        secret_timeout_s: float = SECRET_TIMEOUT_S,
    ) -> None:
        self._unix_time = unix_time
        self._secret_timeout_s = secret_timeout_s
        self._old_at: dict[str, float] = {}  # when each signature that was used is too old to be used again
        self._secret = secret.encode()
        self._hear = hear
        self._moderate = moderate
        self._state = state
        self._pages: set[web.WebSocketResponse] = set()

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/chat", self._chat)
        for path in _PAGE:
            app.router.add_get(path, self._page)
        app.router.add_static("/client/", CLIENT_FOLDER)
        app.router.add_get("/moderate", self._moderation)
        app.on_response_prepare.append(_set_headers)
        app.on_shutdown.append(self._close)
        return app

    async def changed(self) -> None:
        """Sends the present state to the moderators' pages."""
        text = json.dumps(self._state())
        for page in list(self._pages):
            try:
                await page.send_str(text)
            except (ConnectionError, RuntimeError):
                self._pages.discard(page)  # it is leaving

    async def _close(self, app: web.Application) -> None:
        for page in list(self._pages):
            await page.close()

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(FOLDER / _PAGE[request.path])

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if (refusal := self._refusal(request, body)) is not None:
            return web.json_response({"error": refusal}, status=401)
        try:
            line = msgspec.json.decode(body, type=HookLine)
        except msgspec.DecodeError as error:
            return web.json_response({"error": str(error)}, status=400)
        except RecursionError:
            return web.json_response({"error": "the JSON is nested too deeply"}, status=400)
        if not line.user.strip():
            return web.json_response({"error": "`user` is empty - at `$.user`"}, status=400)
        replies = await self._hear(ChatLine(line.user.strip(), line.text, line.is_moderator))
        return web.json_response({"replies": replies})

    def _refusal(self, request: web.Request, body: bytes) -> str | None:
        """Why the sender is not believed; None for one that knows the secret."""
        signature = request.headers.get("X-Signature")
        if signature is not None:
            return self._signature_refusal(signature, request.headers.get("X-Time", ""), body)
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        is_known = scheme.lower() == "bearer" and self._is_secret(given.strip())
        return None if is_known else "the secret is missing or wrong"

    def _signature_refusal(self, signature: str, sent_at: str, body: bytes) -> str | None:
        signed = sent_at.encode("utf-8", "replace") + b"." + body
        expected = "sha256=" + hmac.new(self._secret, signed, hashlib.sha256).hexdigest()
        is_signed = hmac.compare_digest(signature.encode("utf-8", "replace"), expected.encode())
        if not is_signed or not _UNIX_TIME.fullmatch(sent_at):
            return "expected `X-Time`, Unix time in seconds, and `X-Signature`, of that time, a dot and the body"
        now = self._unix_time()
        if abs(now - int(sent_at)) > SIGNED_FOR_S:
            return f"`X-Time` is more than {SIGNED_FOR_S:.0f} s off; look at the clock"
        self._old_at = {one: old_at for one, old_at in self._old_at.items() if old_at >= now}
        if signature in self._old_at:
            return "this line was sent before"
        if len(self._old_at) >= MAX_SIGNED:
            return "too many signed lines; wait a little"
        self._old_at[signature] = int(sent_at) + SIGNED_FOR_S
        return None

    def _is_secret(self, given: object) -> bool:
        return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), self._secret)

    async def _moderation(self, request: web.Request) -> web.StreamResponse:
        """A moderator's page sends its secret, then decisions. It gets the state whenever that changes."""
        socket = web.WebSocketResponse(max_msg_size=MAX_BODY_BYTES, heartbeat=20.0)
        await socket.prepare(request)
        secret = None
        with contextlib.suppress(TimeoutError):
            first = await socket.receive(timeout=self._secret_timeout_s)
            secret = _object(first.data).get("secret") if first.type is WSMsgType.TEXT else None
        if not self._is_secret(secret) or len(self._pages) >= MAX_MODERATORS:
            await socket.close(code=1008, message=b"the secret is wrong, or too many moderators are here")
            return socket
        self._pages.add(socket)
        try:
            await socket.send_str(json.dumps(self._state()))
            async for frame in socket:
                decision = _object(frame.data) if frame.type is WSMsgType.TEXT else {}
                for verb in ("approve", "reject"):
                    if isinstance(decision.get(verb), int):
                        await self._moderate(verb, decision[verb])
        finally:
            self._pages.discard(socket)
        return socket


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or nested too deeply
        return {}
    return value if isinstance(value, dict) else {}


async def _set_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
