"""One controller's connection over any transport: a thin shell around a session.

It checks size, rate and shape of each message, hands it to the session, and sends the events of the session's outbox.
It reads a peer that sends too fast more slowly, and then cuts it off; also one that starts no session in time. There is
one `Connection` per `Transport` (`websocket.py`: a socket; `calls.py`: a data channel), in two tasks: its owner's task
reads (`run`), and a writer task sends. The session outlives it. Everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

import msgspec

from server.accounts.payer import NOBODY, Payer
from server.clock import Clock
from server.doors.access.client_secrets import Identity
from server.doors.sockets import CLOSE_TIMEOUT_S
from server.metrics import Metrics
from server.protocol.codes import ErrorCode, ErrorDetail, error_detail
from server.protocol.decoding import decode, encode
from server.protocol.errors import MessageError, Refused
from server.protocol.fields import is_name
from server.protocol.messages import (
    AnyClientMessage,
    Error,
    ProgramBlank,
    ProgramPush,
    ProgramRecord,
    ProgramShow,
    PromptSet,
    SessionClose,
    SessionPing,
    SessionPong,
    SessionQueued,
    SessionResume,
    SessionStart,
)
from server.protocol.table import ASKED, Scope
from server.session.admission import Ticket
from server.session.limits import (
    MAX_REFUSED,
    REFUSED_WITHIN_S,
    ConnectionLimits,
    Intake,
)
from server.session.registry import Holder, Registry
from server.session.session import Session, SessionState

_log = logging.getLogger(__name__)

# A connection without a session is for those who start one now. Who waits for a stage in the queue may wait on.
SESSION_WITHIN_S = 30.0
# By the type of a message: the scope that its sender needs.
SCOPES: dict[type, Scope | None] = {row.kind: row.scope for row in ASKED}
AUDITED = (SessionStart, SessionResume, SessionClose, ProgramBlank, ProgramPush, ProgramRecord)


class Transport(Protocol):
    """What carries one controller's messages, a JSON object each."""

    is_carried_by_program: bool  # by the session's own video peer, so that it ends with the program

    def frames(self) -> AsyncGenerator[str | bytes | None, None]:
        """What the peer sends, until it is gone. None: a frame of the transport's own, which counts as a message."""
        ...

    async def send(self, text: str) -> None:
        """Returns when there is room for more. Raises `ConnectionError` when the peer is gone."""
        ...

    async def close(self, *, is_going_away: bool = False) -> None:
        """Says goodbye: the session has ended, or (`is_going_away`) the server does. Idempotent."""
        ...

    async def refuse(self, detail: ErrorDetail) -> None:
        """Sends a last error and closes (1008), without waiting for a peer that never stops sending."""
        ...

    def abort(self) -> None:
        """Closes at once, without a goodbye: a peer that does not read would not read it."""
        ...


class Connection:
    """See the module. Implements `neighbours.Controller`."""

    def __init__(
        self,
        transport: Transport,
        registry: Registry,
        *,
        identity: Identity,
        metrics: Metrics,
        clock: Clock,
        payer: Payer = NOBODY,
        note: Callable[[str, str, ErrorCode | None], None] = lambda action, session, code: None,
    ) -> None:
        """`note` writes an action to the audit log: the message's type, the stage, why it was refused."""
        self._identity = identity
        self._payer = payer
        self._holder = Holder(identity.tenant, is_key=identity.is_key, payer=payer)
        self._transport = transport
        self._registry = registry
        self._metrics = metrics
        self._clock = clock
        self._limits = ConnectionLimits(clock)  # while there is no session
        self._intake = Intake(clock, shared=payer.messages)
        self._note = note
        self._session: Session | None = None
        self._is_revoked = False
        self._patience: asyncio.Timeout | None = None  # of the reader
        self._writer: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serves until the peer leaves or the session ends. If cancelled, the session is detached."""
        try:
            if (offence := await self._read_in_time()) is not None:
                await self._cut_off(offence)
            if self._is_revoked and self._session is not None:
                await self._registry.end(self._session, "revoked")
        finally:
            if self._waiting is not None:
                self._waiting.cancel()
                await asyncio.wait([self._waiting])
            if self._session is not None:
                self._session.detach(self)
            if self._writer is not None:
                await self._stop_writer(self._writer)

    async def close(self) -> None:
        """Says goodbye. Idempotent."""
        if self._writer is not None:
            # The writer still sends the session's last messages, and then closes the transport itself.
            await asyncio.wait([self._writer], timeout=CLOSE_TIMEOUT_S)
        await self._transport.close(is_going_away=True)

    def revoke(self) -> None:
        """The key or secret was revoked: ends the stage and the connection."""
        self._is_revoked = True
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time())

    def adopt(self, session: Session) -> None:
        """Takes a session that was started for this connection before its transport was open."""
        self._session = session
        self._start_writer(session)

    async def farewell(self) -> None:
        if self._transport.is_carried_by_program and self._writer is not None:
            await asyncio.wait([self._writer], timeout=CLOSE_TIMEOUT_S)

    def abort(self, reason: str) -> None:
        _log.info("- x connection aborted: %s", reason)
        if self._writer is not None:
            # At once, not when the reader notices: if another connection resumes, two writers would split the events.
            self._writer.cancel()
        self._transport.abort()

    # --- reading --------------------------------------------------------------------------------------------------

    async def _read_in_time(self) -> ErrorDetail | None:
        """Reads until the peer is gone (None), or tells why it must go."""
        try:
            async with asyncio.timeout(0 if self._is_revoked else None) as patience:
                self._patience = patience
                waking = asyncio.create_task(self._expect_session(patience), name="expecting-a-session")
                try:
                    return await self._read()
                finally:
                    self._patience = None
                    waking.cancel()
        except TimeoutError:
            if self._is_revoked:
                return error_detail("unauthorized", "the key or client secret of this connection was revoked")
            reason = f"expected `session.start` or `session.resume` within {SESSION_WITHIN_S:.0f} s"
            return error_detail("no_session", reason)

    async def _expect_session(self, patience: asyncio.Timeout) -> None:
        """Ends the reading when the peer has had its time. A peer that waits in the queue gets it again."""
        while self._session is None:
            await self._clock.sleep_until(self._clock.now() + SESSION_WITHIN_S)
            if self._session is None and self._waiting is None:
                patience.reschedule(asyncio.get_running_loop().time())
                return

    async def _read(self) -> ErrorDetail | None:
        async with aclosing(self._transport.frames()) as frames:
            async for frame in frames:
                limits = self._session.limits if self._session is not None else self._limits
                wait_s = self._intake.take(limits.messages)
                if wait_s > 0:
                    await self._refuse(_rate_limited("messages", wait_s).detail)
                    if self._intake.is_flooded:
                        reason = f"{MAX_REFUSED} messages were refused within {REFUSED_WITHIN_S:.0f} s"
                        return error_detail("rate_limited", reason, retryable=True)
                elif frame is not None:
                    await self._receive(frame)
                await self._intake.rest(wait_s)
        return None

    async def _cut_off(self, offence: ErrorDetail) -> None:
        _log.info("%s x connection closed: %s", self._session_id, offence.message)
        self._metrics.refused(offence.code)
        if self._writer is not None:
            self._writer.cancel()  # nothing may follow the last error
        await self._transport.refuse(offence)

    async def _receive(self, frame: str | bytes) -> None:
        message: AnyClientMessage | None = None
        try:
            message = self._decode(frame)
            await self._handle(message)
            self._audit(message, None)
        except Refused as refusal:
            self._audit(message, refusal.detail.code)
            await self._refuse(refusal.answer_to(message.event_id) if message is not None else refusal.detail)
        except Exception:
            # Boundary of a message: a bug in handling it must not end the session.
            _log.exception("%s ! internal error while handling a message", self._session_id)
            event_id = message.event_id if message is not None else None
            await self._refuse(error_detail("internal_error", "internal server error", event_id=event_id))

    def _audit(self, message: AnyClientMessage | None, code: ErrorCode | None) -> None:
        """Of what was done, only what the operator would ask about; of refusals, `gate.py` chooses."""
        if code is not None or isinstance(message, AUDITED):
            action = str(message.__struct_config__.tag) if message is not None else "-"
            self._note(action, self._session_id, code)

    def _decode(self, frame: str | bytes) -> AnyClientMessage:
        """Raises `Refused`."""
        if isinstance(frame, bytes):
            raise MessageError("binary_not_supported", "expected a text frame with one JSON object")
        return decode(frame)

    async def _handle(self, message: AnyClientMessage) -> None:
        message = checked(self._identity, message)
        if self._session is not None:
            if isinstance(message, PromptSet | ProgramShow):
                if (wait_s := self._session.limits.prompts.take()) > 0:
                    raise _rate_limited("prompts", wait_s)
                self._payer.prompt()
            await self._handle_in(self._session, message)
            return
        match message:
            case SessionStart() | SessionResume() if self._waiting is not None:
                raise Refused("session_exists", "this connection waits for its stage already")
            case _ if self._identity.resumes_only and not isinstance(message, SessionResume):
                raise Refused("unauthorized", "the client secret has ended or was used; it only resumes its stage")
            case SessionStart():
                entered = await self._registry.start(message, self, self._holder)
                if isinstance(entered, Ticket):
                    self._waiting = asyncio.create_task(self._wait(entered, message), name="waiting-for-a-stage")
                else:
                    self._session = entered
                    self._start_writer(entered)
            case SessionResume():
                self._session = self._registry.take_up(message, self, self._holder)
                self._start_writer(self._session)
            case SessionPing():
                await self._send(encode(SessionPong(event_id=message.event_id)))
            case _:
                reason = "wait for `session.created`" if self._waiting is not None else "send `session.start` first"
                raise Refused("no_session", reason)

    async def _wait(self, ticket: Ticket, message: SessionStart) -> None:
        """Tells the controller its place in the queue until it may come in. If cancelled, gives up the place."""
        try:
            while self._session is None:
                if await ticket.news():
                    self._session = await self._registry.come_in(ticket, message, self, self._holder)
                    continue
                wait_ms = round(ticket.wait_s * 1000) if ticket.wait_s is not None else None
                queued = SessionQueued(event_id=message.event_id, position=ticket.position, estimated_wait_ms=wait_ms)
                await self._send(encode(queued))
            self._start_writer(self._session)
        except Refused as refusal:
            await self._refuse(refusal.answer_to(message.event_id))
        except Exception:
            # Boundary of this task: the controller is told, and may start again.
            _log.exception("- ! internal error while a controller waited")
            await self._refuse(error_detail("internal_error", "internal server error", event_id=message.event_id))
        finally:
            self._waiting = None
            self._registry.leave(ticket)

    async def _handle_in(self, session: Session, message: AnyClientMessage) -> None:
        if session.state is SessionState.CLOSED:
            return  # `session.closed` is on its way
        await session.handle(message)
        if isinstance(message, SessionClose):
            await self._registry.end(session)

    async def _refuse(self, detail: ErrorDetail) -> None:
        if self._session is not None:
            self._session.receipts.refuse(detail)
            return
        self._metrics.refused(detail.code)
        await self._send(encode(Error(error=detail)))

    # --- writing --------------------------------------------------------------------------------------------------

    def _start_writer(self, session: Session) -> None:
        self._writer = asyncio.create_task(self._write(session), name=f"writer-{session.session_id}")

    async def _write(self, session: Session) -> None:
        """Sends the session's events, in order; closes the transport after the last."""
        try:
            while (text := await session.outbox.next_text()) is not None:
                if not await self._send(text):
                    return
            await self._transport.close()
        except Exception:
            # Boundary of this task: without a writer the connection is useless.
            _log.exception("%s ! internal error in the writer", session.session_id)
            self.abort("internal error")

    async def _stop_writer(self, writer: asyncio.Task[None]) -> None:
        if self._session is not None and self._session.state is SessionState.CLOSED:
            await asyncio.wait([writer], timeout=CLOSE_TIMEOUT_S)  # it sends the last messages and closes
        writer.cancel()
        await asyncio.wait([writer])

    @property
    def _session_id(self) -> str:
        return self._session.session_id if self._session is not None else "-"

    async def _send(self, text: str) -> bool:
        """False if the peer is gone; the reader will notice that, too."""
        try:
            await self._transport.send(text)
        except ConnectionError:
            return False
        return True


def checked(identity: Identity, message: AnyClientMessage) -> AnyClientMessage:
    """The message. A start gets the name of the one stage that its secret is for.

    Raises `Refused` (`missing_scope`) if the table asks for a scope, or the message names a stage, of others.
    """
    identity.check(SCOPES[type(message)])
    if isinstance(message, SessionStart) and identity.session is not None:
        identity.check(None, message.name or identity.session)
        if not is_name(identity.session):
            raise Refused("missing_scope", "this secret is for a stage that is there already, and starts none")
        return msgspec.structs.replace(message, name=identity.session)
    if isinstance(message, SessionResume):
        identity.check(None, message.session_id)
    return message


def _rate_limited(what: str, wait_s: float) -> Refused:
    return Refused("rate_limited", f"too many {what} on this connection", retry_after_ms=math.ceil(wait_s * 1000))
