"""All sessions of the server: starts and closes them, keeps the queue, hands engine events to their owners.

The doors call it, and it calls `session.py`. It opens and closes the engine. It has two tasks: one reads the engine's
events, one ticks once a second. The server cannot work without them, so it ends when one of them dies
(`essential.py`). `/livez` checks the tick. Everything runs on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from engine.api import (
    EngineLost,
    EngineReady,
    EngineState,
    EngineStopped,
    Event,
    GenerationStarted,
    Quality,
)
from server.accounts.payer import NOBODY, Payer
from server.essential import EssentialTasks
from server.metrics import Snapshot
from server.protocol.errors import Refused
from server.protocol.fields import is_name
from server.protocol.messages import SessionOptions, SessionResume, SessionStart
from server.session import capabilities
from server.session.admission import MIN_RETRY_S, Admission, Queue, Ticket
from server.session.generations import Owner
from server.session.neighbours import Controller
from server.session.session import Neighbours, Session, SessionState
from server.token_bucket import TokenBucket

_log = logging.getLogger(__name__)
_Owner = TypeVar("_Owner", bound=Owner)

TICK_S = 1.0
# `/livez` fails this long after the last tick, because the event loop or the clock has stopped.
HEARTBEAT_TIMEOUT_S = 5.0
# When a controller that was refused during a shutdown should try again.
RETRY_AFTER_MS = round(MIN_RETRY_S * 1000)
# When a page should ask again for a named stage that does not exist yet.
NAME_RETRY_MS = 2000
# How long a session's end is waited for. Peers that do not answer our goodbye must not hold up a shutdown.
CLOSE_TIMEOUT_S = 1.5
# A session keeps its place for this long after its controller was lost. A client notices a dead link after 8 s at most
# (the SDKs' silence), and then has three attempts to resume. Without that, any page that starts a stage on a full
# server ended a show whose network had just failed.
KEEP_DETACHED_S = 20.0
# Of one key. Each stage takes megabytes for its pictures, which the C library keeps: 657 stages within 5 s took 205 MB.
START_BURST, START_RATE = 32, 2.0


@dataclass(frozen=True, slots=True)
class Holder:
    """Who may hold a stage, and pays for it: a tenant's key, or a client secret of that key."""

    tenant: str = ""
    is_key: bool = True
    payer: Payer = NOBODY


# Everybody, on a server without keys.
ANYBODY = Holder()


class Registry:
    """See the module. `open` it before anything else; `close` ends all sessions and the engine."""

    def __init__(
        self,
        neighbours: Neighbours,
        *,
        max_sessions: int = 8,
        max_queued: int = 16,
        resume_grace_s: float = 60.0,
        on_engine_ready: Callable[[EngineReady], None] = lambda event: None,
        on_engine_unusable: Callable[[EngineStopped], None] = lambda event: None,
        on_task_died: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.engine = neighbours.engine
        self.startup_s: float | None = None  # of the engine's newest start; None: it was never ready
        self.is_draining = False
        self._neighbours = neighbours
        self._clock = neighbours.clock
        self._max_sessions = max_sessions
        self._resume_grace_s = resume_grace_s
        self._on_engine_ready = on_engine_ready
        self._on_engine_unusable = on_engine_unusable
        self._sessions: dict[str, Session] = {}
        self._admission = Admission(self._clock)
        self._starts: dict[str, TokenBucket] = {}  # by tenant, of which there are as many as keys
        self._queue = Queue(max_queued)
        self._tasks: set[asyncio.Task[None]] = set()
        self._essential = EssentialTasks(on_task_died)
        self._ticked_at = self._clock.now()
        neighbours.metrics.bind(self._take_snapshot)

    async def open(self) -> None:
        """Begins to start the engine. Raises `ModelError`."""
        await self.engine.open()
        self._ticked_at = self._clock.now()
        self._essential.start(self._read_events(), "engine-events")
        self._essential.start(self._tick_for_ever(), "session-ticks")

    async def close(self) -> None:
        """Tells every controller, ends every session, stops the engine. Never takes longer than a few seconds."""
        self.is_draining = True
        self._essential.expect_end()
        for ticket in self._queue:
            ticket.refuse(_draining())
        sessions = list(self._sessions.values())
        for session in sessions:
            session.receipts.warn("draining", "the server is shutting down")
        ending = [self._close(session, "server_shutdown") for session in sessions]
        await asyncio.gather(self.engine.close(), *ending)
        await self._essential.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- sessions -------------------------------------------------------------------------------------------------

    def find(self, session_id: str, tenant: str | None) -> Session:
        """A stage of this tenant; None: of any. Another tenant's stage looks like none.

        Raises `Refused` (`unknown_session`), with a retry time for a name: it may be started at any time.
        """
        session = self._sessions.get(session_id)
        is_foreign = session is not None and tenant is not None and session.tenant != tenant
        if session is None or session.state is SessionState.CLOSED or is_foreign:
            retry_after_ms = NAME_RETRY_MS if is_name(session_id) else None
            reason = "there is no such session; it may have ended, or not begun"
            raise Refused("unknown_session", reason, retry_after_ms=retry_after_ms)
        return session

    def sessions(self, tenant: str | None) -> list[Session]:
        """The stages of this tenant; None: of all."""
        return [session for session in self._sessions.values() if tenant is None or session.tenant == tenant]

    async def start(self, message: SessionStart, controller: Controller, holder: Holder = ANYBODY) -> Session | Ticket:
        """A session for `controller`, or a ticket in the queue: call `come_in` when it is called, or `leave`.

        Raises `Refused` (`server_full`, `draining`, `not_supported`, `invalid_value`, `name_taken`).
        """
        self._check(message, holder)
        if not len(self._queue) and self._has_room(self._cost_s(message.quality)):
            return await self._create(message, controller, holder)
        if self._queue.is_full:
            retry_after_ms = round(self._admission.retry_after_s(len(self._queue)) * 1000)
            reason = f"there is no room for another stage, and {len(self._queue)} controllers wait for one"
            raise Refused("server_full", reason, retry_after_ms=retry_after_ms)
        ticket = Ticket(self._cost_s(message.quality))
        self._queue.join(ticket)
        self._queue.tell_all(self._admission, self._clock.now())
        return ticket

    async def come_in(
        self, ticket: Ticket, message: SessionStart, controller: Controller, holder: Holder = ANYBODY
    ) -> Session | None:
        """The session of a controller that was called; None if a resumed session has taken the room meanwhile.

        The controller then keeps its place in the queue. Raises `Refused`.
        """
        ticket.is_called = False
        if not self._has_room(ticket.cost_s):
            self._queue.tell_all(self._admission, self._clock.now())
            return None
        self._queue.leave(ticket)
        self._check(message, holder)  # since `start`, the model may have become known or the name taken
        return await self._create(message, controller, holder)

    def leave(self, ticket: Ticket) -> None:
        """Gives up a place in the queue, if it still is one."""
        self._queue.leave(ticket)
        self._call_waiting()

    async def _create(self, message: SessionStart, controller: Controller, holder: Holder) -> Session:
        if message.name is not None and message.name in self._sessions:
            self._abandon(self._sessions[message.name])  # `_check` saw that it may go
        self._make_room(self._cost_s(message.quality))
        names = (name for name in message.__struct_fields__ if name not in ("event_id", "name"))
        starts = self._starts.setdefault(holder.tenant, TokenBucket(START_RATE, START_BURST, self._clock))
        if (wait_s := starts.take()) > 0:
            raise _too_fast(wait_s)
        session_id = message.name or f"s{secrets.token_hex(8)}"
        session = Session(
            session_id,
            SessionOptions(**{name: getattr(message, name) for name in names}),
            self._neighbours,
            stage_id=session_id if message.name is None else f"{session_id}@{secrets.token_hex(4)}",
            tenant=holder.tenant,
            place=holder.payer.enter_stage(_pixels_per_s(message)),  # `_check` saw that there is one
            # At once: the place and the name are free even while viewers and ingests are still being closed.
            on_closed=self._forget_owner,
        )
        # The session counts from here on: no `await` may stand between the admission and this line.
        self._sessions[session.session_id] = session
        self._admission.open(session.session_id)
        try:
            await session.open()
        except BaseException:
            self._spawn(self._close(session, "internal_error"), f"close-{session.session_id}")
            raise
        session.attach(controller)
        session.answer_start(message)
        return session

    def take_up(self, message: SessionResume, controller: Controller, holder: Holder = ANYBODY) -> Session:
        """The session that `controller` comes back to. Raises `Refused`."""
        self._refuse_when_draining()
        session = self.find(message.session_id, holder.tenant)
        session.take_up(controller, message)
        return session

    async def end(self, session: Session, reason: str = "client") -> None:
        """Forgets a session whose controller ended it, and frees what it still holds."""
        await self._close(session, reason)

    def drop_viewer(self, session: Session, viewer_id: str) -> None:
        """Its key or secret was revoked. A viewer that has gone meanwhile is no error."""
        self._spawn(_drop(session, viewer_id), f"drop-{viewer_id}")

    def _refuse_when_draining(self) -> None:
        if self.is_draining:
            raise _draining()

    def _check(self, message: SessionStart, holder: Holder) -> None:
        self._refuse_when_draining()
        named = self._sessions.get(message.name) if message.name is not None else None
        # A console that crashed and starts again must not be locked out by its own old session. Visitors of one page
        # have secrets of one key: to them a detached stage yields only by its resume token (`take_up`).
        yields_to = named is not None and named.state is SessionState.DETACHED and named.tenant == holder.tenant
        if named is not None and not (yields_to and holder.is_key):
            raise Refused("name_taken", f"there is a session of the name `{message.name}`", param="name")
        capabilities.check(self.engine.model, transition=message.transition, after=message.after, lora=message.lora)
        capabilities.check_music(self._neighbours.music, message.music)
        capabilities.check_size(self._neighbours.max_program, message.width, message.height, message.frame_rate)
        # Last, because it may end stages: those of the same payer that yield, the longest detached first.
        while True:
            try:
                holder.payer.check_stage(_pixels_per_s(message), named.place if named is not None else None)
                return
            except Refused as refusal:
                yielding = [one for one in self._sessions.values() if one is not named and self._yields(one)]
                own = [one for one in yielding if one.place.shares_account_with(holder.payer)]
                if refusal.detail.code != "server_full" or not own:
                    raise
                self._abandon(min(own, key=lambda session: session.detached_at))

    # --- room -----------------------------------------------------------------------------------------------------

    def _cost_s(self, quality: str) -> float:
        """Engine time of one generation; 0 before the first measurement, so that every session is let in."""
        return self.engine.cost_s(Quality(quality)) or 0.0

    def _costs(self, *, counts_yielding: bool = True) -> dict[str, float]:
        """What a generation costs, by session id: of all sessions, or of those that do not yield."""
        return {
            session_id: self._cost_s(session.options.quality)
            for session_id, session in self._sessions.items()
            if counts_yielding or not self._yields(session)
        }

    def _yields(self, session: Session) -> bool:
        """Whether a new session may take its place, because its controller has been away for long enough."""
        away_s = self._clock.now() - session.detached_at
        return session.state is SessionState.DETACHED and away_s >= KEEP_DETACHED_S

    def _has_room(self, cost_s: float) -> bool:
        num_called = self._queue.num_called
        costs = self._costs(counts_yielding=False)
        is_below_limit = len(costs) + num_called < self._max_sessions
        return is_below_limit and self._admission.has_room(costs, cost_s, num_called)

    def _make_room(self, cost_s: float) -> None:
        """Closes sessions that yield, the longest detached first, until the new one has room."""
        while True:
            yielding = [session for session in self._sessions.values() if self._yields(session)]
            is_below_limit = len(self._sessions) < self._max_sessions
            if not yielding or (is_below_limit and self._admission.has_room(self._costs(), cost_s)):
                return
            self._abandon(min(yielding, key=lambda session: session.detached_at))

    def _abandon(self, session: Session) -> None:
        self._forget_owner(session)
        self._spawn(self._close(session, "abandoned"), f"close-{session.session_id}")

    def _call_waiting(self) -> None:
        """Calls waiting controllers in order while there is room, and tells the others their position."""
        for ticket in self._queue:
            if not ticket.is_called:
                if not self._has_room(ticket.cost_s):
                    break
                ticket.call()
        self._queue.tell_all(self._admission, self._clock.now())

    def _forget_owner(self, owner: Owner) -> None:
        self._neighbours.generations.forget(owner)
        if isinstance(owner, Session):
            owner.place.leave()
        if self._sessions.get(owner.owner_id) is owner:  # and not a newer one of the same name
            del self._sessions[owner.owner_id]
            self._admission.close(owner.owner_id)

    async def _close(self, owner: Owner, reason: str) -> None:
        # Out of the tables first: a closing session takes no room and gets no more events.
        self._forget_owner(owner)
        self._call_waiting()
        closing = self._spawn(self._finish(owner, reason), f"finish-{owner.owner_id}")
        # Not cancelled when it is late: half closed, it would keep its thread, its tasks and its viewers' sockets.
        await asyncio.wait([closing], timeout=CLOSE_TIMEOUT_S)
        if not closing.done():
            _log.warning("%s ! did not close within %s s", owner.owner_id, CLOSE_TIMEOUT_S)

    async def _finish(self, owner: Owner, reason: str) -> None:
        try:
            await owner.close(reason)
        except Exception:
            # Boundary: the other owners and the engine must still be closed.
            _log.exception("%s ! internal error while closing", owner.owner_id)

    # --- tasks ----------------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.critical("- ! task %s died", task.get_name(), exc_info=error)

    async def _read_events(self) -> None:
        async for event in self.engine.events():
            try:
                self._hand_on(event)
            except Exception:
                # Boundary: the next event belongs to another session.
                _log.exception("- ! an event of the engine met an internal error (%s)", type(event).__name__)

    def _hand_on(self, event: Event) -> None:
        match event:
            case EngineReady():
                self._on_ready(event)
            case EngineLost():
                _log.warning("- ! engine lost: %s (%s)", event.reason, event.detail)
                for session in list(self._sessions.values()):
                    self._guarded(session, lambda session: session.on_engine_lost(event))
            case EngineStopped():
                _log.error("- ! engine stopped: %s", event.detail)
                for session in list(self._sessions.values()):
                    self._guarded(session, lambda session: session.on_engine_stopped(event))
                if self.startup_s is None:
                    self._on_engine_unusable(event)
            case _:
                owner = self._neighbours.generations.owner_of(event)
                if owner is not None:
                    if isinstance(event, GenerationStarted) and not event.is_reused:
                        self._admission.generated(owner.owner_id)
                    self._guarded(owner, lambda owner: owner.on_generation_event(event))

    def _on_ready(self, event: EngineReady) -> None:
        is_recovery = self.startup_s is not None
        self.startup_s = event.startup_s
        for session in list(self._sessions.values()):
            self._guarded(session, lambda session: session.on_engine_ready(event, is_recovery=is_recovery))
        if not is_recovery:
            self._on_engine_ready(event)

    def _guarded(self, owner: _Owner, act: Callable[[_Owner], None]) -> None:
        """If `act` raises, closes this owner only. The task that serves all owners goes on."""
        try:
            act(owner)
        except Exception:
            _log.exception("%s ! internal error; closing it", owner.owner_id)
            self._spawn(self._close(owner, "internal_error"), f"close-{owner.owner_id}")

    async def _tick_for_ever(self) -> None:
        due = self._clock.now()
        while True:
            due += TICK_S
            await self._clock.sleep_until(due)
            self._ticked_at = self._clock.now()
            # After a pause of the whole process (SIGSTOP), missed ticks are skipped: a burst would count nothing.
            if self._ticked_at - due >= TICK_S:
                due = self._ticked_at
            for session in list(self._sessions.values()):
                self._guarded(session, self._tick)
            self._call_waiting()

    def _tick(self, session: Session) -> None:
        if (name := session.program.dead_task) is not None:
            raise RuntimeError(f"task {name} of this show died")
        session.tick()
        if session.length.is_over(self._clock.now()):
            self._spawn(self._close(session, "time_up"), f"close-{session.session_id}")
            return
        if session.state is not SessionState.DETACHED:
            return
        if self._clock.now() - session.detached_at >= self._resume_grace_s:
            self._spawn(self._close(session, "abandoned"), f"close-{session.session_id}")

    def _take_snapshot(self) -> Snapshot:
        sessions, report = self._sessions.values(), self.engine.report()
        return Snapshot(
            num_sessions=len(sessions),
            num_detached=sum(session.state is SessionState.DETACHED for session in sessions),
            num_viewers=sum(session.program.num_viewers for session in sessions),
            num_recordings=sum(session.is_recording for session in sessions),
            worst_play_ratio=min(
                (session.program.statistics().continuous_play_ratio for session in sessions), default=1.0
            ),
            engine_state=self.engine.state,
            engine=self.engine.statistics(),
            costs=self.engine.costs(),
            peak_memory_bytes=report.peak_memory_bytes if report is not None else 0,
            num_queued=len(self._queue),
            load=self._admission.load(self._costs()),
        )

    @property
    def is_ready(self) -> bool:
        return self.engine.state is EngineState.READY and not self.is_draining and self.complaint is None

    @property
    def complaint(self) -> str | None:
        """Why a new process should replace this one; None while this one is alive."""
        if self._essential.dead is not None:
            return f"task {self._essential.dead} died"
        silent_s = self._clock.now() - self._ticked_at
        return f"no heartbeat for {silent_s:.0f} s" if silent_s > HEARTBEAT_TIMEOUT_S else None


async def _drop(session: Session, viewer_id: str) -> None:
    with contextlib.suppress(Refused):
        await session.viewers.remove(viewer_id)


def _pixels_per_s(message: SessionStart) -> int:
    return message.width * message.height * message.frame_rate


def _too_fast(wait_s: float) -> Refused:
    """For stages that come faster than anybody can use them."""
    reason = f"stages are started too fast: {START_BURST} at once, then {START_RATE:g} a second"
    return Refused("rate_limited", reason, retry_after_ms=math.ceil(wait_s * 1000))


def _draining() -> Refused:
    return Refused("draining", "the server is shutting down", retry_after_ms=RETRY_AFTER_MS)
