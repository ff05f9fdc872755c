"""`POST /v1/realtime/calls`: sessions over WebRTC alone, with one HTTP request and no WebSocket.

With `?session=ID` the caller is a viewer of that session. Without it, the call starts a new session, and the caller's
data channel `events` carries the protocol's messages, through the same `Connection` as on the WebSocket. A caller
without such a channel controls its session over another connection (`session.resume`). Runs on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from secrets import token_hex
from typing import Any

from aiohttp import web
from aiortc import InvalidStateError, RTCDataChannel

from server.clock import Clock
from server.doors.access.client_secrets import Identity
from server.doors.access.gate import Gate
from server.doors.connection import Connection, checked
from server.doors.sockets import CLOSE_TIMEOUT_S
from server.media.webrtc import signalling
from server.media.webrtc.ice import Ice
from server.metrics import Metrics
from server.protocol.codes import ErrorDetail
from server.protocol.decoding import encode, session_start
from server.protocol.errors import MessageError, Refused
from server.protocol.messages import Error, SessionStart
from server.session.admission import Ticket
from server.session.registry import Holder, Registry
from server.session.session import Session

_log = logging.getLogger(__name__)

PATH = "/v1/realtime/calls"
CHANNEL_LABEL = "events"
SDP = "application/sdp"
MULTIPART = "multipart/form-data"
# Unread bytes: about a second of previews. Above it the session's outbox waits, and drops by its own rule.
HIGH_WATER_BYTES = 256 * 1024
LOW_WATER_BYTES = 64 * 1024
# Messages received and not yet handled: more than the rate limit's burst. A caller with more is cut off.
MAX_UNHANDLED = 256


class ChannelTransport:
    """A data channel that the caller opens later. Implements `connection.Transport`.

    Without one (`has_channel` false), messages are dropped here and stay in the session's replay buffer for a resume.
    """

    is_carried_by_program = True

    def __init__(self, *, has_channel: bool) -> None:
        self._has_channel = has_channel
        self._channel: RTCDataChannel | None = None
        self._received: asyncio.Queue[str | bytes | None] = asyncio.Queue(maxsize=MAX_UNHANDLED + 1)
        self._is_gone = False
        self._changed = asyncio.Event()  # the channel has come, has room, or is gone

    def use(self, channel: RTCDataChannel) -> None:
        """The caller opened a channel. Takes the first one with our label."""
        if channel.label != CHANNEL_LABEL or self._channel is not None or self._is_gone:
            return
        self._channel = channel
        channel.bufferedAmountLowThreshold = LOW_WATER_BYTES
        channel.on("message", self._receive)
        channel.on("bufferedamountlow", self._changed.set)
        channel.on("close", self.lose)
        self._changed.set()

    def lose(self) -> None:
        """The channel, or the peer that carried it, is gone."""
        if not self._is_gone:
            self._is_gone = True
            self._changed.set()
            self._received.put_nowait(None)  # the queue always has room for it

    async def frames(self) -> AsyncGenerator[str | bytes | None, None]:
        while (frame := await self._received.get()) is not None:
            yield frame

    async def send(self, text: str) -> None:
        while self._has_channel and not self._has_room and not self._is_gone:
            self._changed.clear()
            await self._changed.wait()
        if self._is_gone:
            raise ConnectionError("the call has ended")
        if self._channel is not None:
            try:
                self._channel.send(text)
            except InvalidStateError:
                raise ConnectionError("the data channel is closed") from None

    @property
    def _has_room(self) -> bool:
        return self._channel is not None and self._channel.bufferedAmount <= HIGH_WATER_BYTES

    async def close(self, *, is_going_away: bool = False) -> None:
        """Waits until the caller has confirmed that it got everything, at most half of `CLOSE_TIMEOUT_S`."""
        if self._channel is not None and not self._is_gone:
            self._channel.close()
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S / 2):
                    while not self._is_gone:
                        self._changed.clear()
                        await self._changed.wait()
            except TimeoutError:
                _log.debug("- x a caller did not confirm the end of its channel")
        self.lose()

    async def refuse(self, detail: ErrorDetail) -> None:
        """Messages that still come meet a full queue, which aborts."""
        if self._channel is not None and not self._is_gone:
            with contextlib.suppress(InvalidStateError):
                self._channel.send(encode(Error(error=detail)))
        await self.close()

    def abort(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self.lose()

    def _receive(self, frame: str | bytes) -> None:
        if self._is_gone:
            return
        if self._received.qsize() >= MAX_UNHANDLED:
            _log.warning("- ! a caller sends faster than it is answered; its channel is closed")
            self.abort()
            return
        self._received.put_nowait(frame)


@dataclass(slots=True)
class _Call:
    session: Session
    viewer_id: str
    identity: Identity
    let_go: Callable[[], None]  # of its key or secret
    # Of a caller with its own session; None for a viewer of another session.
    connection: Connection | None = None
    reading: asyncio.Task[None] | None = None


class CallsApi:
    """The endpoint. `close` ends the tasks that read the calls; the registry ends the sessions."""

    def __init__(self, registry: Registry, gate: Gate, ice: Ice, *, metrics: Metrics, clock: Clock) -> None:
        self._registry = registry
        self._gate = gate
        self._ice = ice
        self._metrics = metrics
        self._clock = clock
        self._calls: dict[str, _Call] = {}  # as many as there are viewers by call
        self._readings: set[asyncio.Task[None]] = set()

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post(PATH, self._begin)
        router.add_options(PATH, self._options)
        router.add_delete(PATH + "/{call_id}", self._end)
        router.add_options(PATH + "/{call_id}", self._options)

    async def close(self) -> None:
        for task in list(self._readings):
            task.cancel()
        await asyncio.gather(*self._readings, return_exceptions=True)

    # --- HTTP -----------------------------------------------------------------------------------------------------

    async def _begin(self, request: web.Request) -> web.StreamResponse:
        identity = self._gate.admit(request, "view", connects=True)
        offer_sdp, options = await _read(request)
        if "session" in request.query:
            if options:
                name = next(iter(options))
                raise Refused("unknown_field", f"a viewer's call has no option `{name}`", param=name)
            identity.check("view", request.query["session"])
            session = self._registry.find(request.query["session"], identity.sees)
            return await self._watch(session, offer_sdp, identity, request)
        return await self._start(session_start(options), offer_sdp, identity, request)

    async def _watch(
        self, session: Session, offer_sdp: str, identity: Identity, request: web.Request
    ) -> web.StreamResponse:
        call_id = _new_id()
        viewer_id, answer_sdp = await session.viewers.add(
            offer_sdp,
            address=self._gate.peers.of(request),
            payer=self._gate.payer(request, identity),
            on_gone=lambda _: self._forget(call_id),
        )
        end = partial(self._registry.drop_viewer, session, viewer_id)
        self._calls[call_id] = _Call(session, viewer_id, identity, self._gate.keyring.hold(identity, end))
        return _created(call_id, session, answer_sdp)

    async def _start(
        self, message: SessionStart, offer_sdp: str, identity: Identity, request: web.Request
    ) -> web.StreamResponse:
        named = checked(identity, message)
        assert isinstance(named, SessionStart)
        offer = self._read_offer(offer_sdp)
        transport = ChannelTransport(has_channel=offer.has_channel)
        payer = self._gate.payer(request, identity)
        connection = Connection(
            transport,
            self._registry,
            identity=identity,
            metrics=self._metrics,
            clock=self._clock,
            payer=payer,
            note=partial(self._gate.note_message, request, identity),
        )
        session = await self._registry.start(
            named, connection, Holder(identity.tenant, is_key=identity.is_key, payer=payer)
        )
        if isinstance(session, Ticket):
            self._registry.leave(session)
            # One HTTP request cannot wait for a stage and report its place in the queue meanwhile.
            reason = "there is no room for another stage now; the WebSocket has a queue"
            raise Refused("server_full", reason, retry_after_ms=round((session.wait_s or 5.0) * 1000))
        call_id = _new_id()

        def lose(viewer_id: str) -> None:
            transport.lose()
            self._forget(call_id)

        try:
            on_channel = transport.use if offer.has_channel else None
            viewer_id, answer_sdp = await session.viewers.connect(offer, on_channel=on_channel, on_gone=lose)
        except BaseException:
            transport.lose()
            await self._registry.end(session)
            raise
        connection.adopt(session)
        reading = asyncio.create_task(connection.run(), name=f"call-{call_id}")
        self._readings.add(reading)
        reading.add_done_callback(self._readings.discard)
        let_go = self._gate.keyring.hold(identity, connection.revoke)
        self._calls[call_id] = _Call(session, viewer_id, identity, let_go, connection, reading)
        response = _created(call_id, session, answer_sdp)
        # For a controller of a session whose caller has no channel, and for the caller to resume.
        response.headers["Sceneshift-Resume-Token"] = session.resume_token
        return response

    def _read_offer(self, offer_sdp: str) -> signalling.Offer:
        """Raises `Refused`, before a session is made for it."""
        try:
            return signalling.checked_offer(offer_sdp, self._ice.takes, takes_channel=True)
        except signalling.OfferError as error:
            raise Refused(error.code, error.message, param="sdp") from None

    async def _end(self, request: web.Request) -> web.StreamResponse:
        identity = self._gate.admit(request, "view")
        call = self._calls.get(request.match_info["call_id"])
        if call is None or identity.tenant != call.identity.tenant:
            raise Refused("unknown_call", "there is no such call; it may have ended")
        identity.check("prompt" if call.connection is not None else "view", call.session.session_id)
        if call.connection is not None:
            await self._registry.end(call.session)
        else:
            await call.session.viewers.remove(call.viewer_id)
        return web.Response()

    async def _options(self, request: web.Request) -> web.StreamResponse:
        """A browser's CORS preflight for a page of another origin; `http_api` adds the headers."""
        return web.Response(status=HTTPStatus.NO_CONTENT, headers={"Accept-Post": f"{SDP}, {MULTIPART}"})

    def _forget(self, call_id: str) -> None:
        if (call := self._calls.pop(call_id, None)) is not None:
            call.let_go()


def _new_id() -> str:
    return f"call_{token_hex(12)}"


def _created(call_id: str, session: Session, answer_sdp: str) -> web.Response:
    headers = {"Location": f"{PATH}/{call_id}", "Sceneshift-Session": session.session_id}
    return web.Response(status=HTTPStatus.CREATED, text=answer_sdp, content_type=SDP, headers=headers)


async def _read(request: web.Request) -> tuple[str, dict[str, Any]]:
    """The offer, and the session's options. Raises `Refused`."""
    options: dict[str, Any] = {name: value for name, value in request.query.items() if name not in ("token", "session")}
    if request.content_type == SDP:
        return (await request.read()).decode("utf-8", "replace"), options
    if request.content_type != MULTIPART:
        raise Refused("unsupported_media_type", f"expected {SDP} or {MULTIPART}, got {request.content_type}")
    try:
        form = await request.post()
    except ValueError as error:
        raise Refused("invalid_json", f"the form cannot be read: {error}") from None
    parts = {name: form.get(name) for name in ("sdp", "session")}
    for name, part in parts.items():
        if not isinstance(part, str | None):
            raise Refused("wrong_type", f"`{name}` must be a text, not a file", param=name)
    if parts["sdp"] is None:
        raise Refused("missing_field", "the form needs the field `sdp`", param="sdp")
    return str(parts["sdp"]), options | _options_of(parts["session"])


def _options_of(part: Any) -> dict[str, Any]:
    if part is None:
        return {}
    try:
        options = json.loads(part)
    except (ValueError, RecursionError):
        options = None
    if not isinstance(options, dict):
        raise MessageError("invalid_json", "expected `session` to be one JSON object", param="session")
    # OpenAI's clients send `{"type": "realtime"}`; here every session is of that type.
    options.pop("type", None)
    return options
