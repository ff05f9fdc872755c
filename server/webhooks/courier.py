"""Brings events to the endpoints that want them: at least once, one at a time for each endpoint, over three days.

A slow endpoint holds up only itself: each has a task, which goes on while its deliveries succeed and gives its place
back after one that failed. What is under way when a server is killed stays `pending`, so the next server sends it
again with the same `webhook-id`. On the event loop.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import random
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from server.clock import Clock
from server.rarely import Rarely
from server.store.store import Store, StoreError
from server.webhooks import rows, signing
from server.webhooks.rows import Delivery, DeliveryStatus, Endpoint
from server.webhooks.sender import Answer, Sender

_log = logging.getLogger(__name__)

# Between two attempts, in seconds: the example of Standard Webhooks 1.0.0. 76 hours together.
SCHEDULE_S = (0.0, 5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
# Up to a tenth longer, so that what failed together does not come back together.
JITTER = 0.1
MAX_RETRY_AFTER_S = 86_400.0
MOST_AT_ONCE = 32
# Of one tenant: its slow endpoints leave places for others.
MOST_OF_A_TENANT = 8
# Clips end in the queue, by `cancel`, and in other processes; the outbox alone knows of all.
POLL_S = 1.0
NO_STORE_PAUSE_S = 10.0
PRUNE_EVERY_S = 600.0


@dataclass(eq=False, slots=True)
class _Serving:
    tenant: str
    task: asyncio.Task[None]


class Courier:
    """`run` is an essential task."""

    def __init__(
        self,
        store: Store,
        sender: Sender,
        *,
        clock: Clock,
        wall_time: Callable[[], float],
        link: Callable[[str], str],
        is_good: Callable[[str], bool],
        on_attempt: Callable[[str], None] = lambda outcome: None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`link`: to a clip's file. `is_good`: whether a tenant's key still opens the server. `on_attempt`: gets the
        delivery's status after each. `draw`: 0 to 1."""
        self._store = store
        self._sender = sender
        self._clock = clock
        self._wall_time = wall_time
        self._link = link
        self._is_good = is_good
        self._on_attempt = on_attempt
        self._draw = draw
        self._serving: dict[str, _Serving] = {}
        self._turns: dict[str, int] = {}  # when each endpoint that waits was served last
        self._num_turns = 0
        self._rests_until = self._prunes_at = clock.now()
        self._complain = Rarely(clock, _log.error)

    async def run(self) -> None:
        """For ever."""
        try:
            while True:
                try:
                    await self._begin_due()
                except StoreError as error:
                    self._rest(error)
                await self._clock.sleep_until(self._clock.now() + POLL_S)
        finally:
            tasks = [serving.task for serving in self._serving.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._sender.close()

    async def send_sample(self, endpoint: Endpoint, kind: str) -> Answer:
        """An event of no clip, once."""
        now = self._wall_time()
        event_id = f"evt_test_{secrets.token_hex(8)}"
        return await self._post(endpoint, event_id, _body(event_id, kind, now, {"id": "video_test"}))

    async def _begin_due(self) -> None:
        now = self._clock.now()
        if now < self._rests_until:
            return
        if now >= self._prunes_at:
            self._prunes_at = now + PRUNE_EVERY_S
            await self._store.ask(partial(rows.prune, now=self._wall_time()))
        due = await self._store.ask(partial(rows.due_endpoints, now=self._wall_time()))
        self._turns = {endpoint_id: self._turns.get(endpoint_id, 0) for endpoint_id, _ in due}
        busy = Counter(serving.tenant for serving in self._serving.values())
        for endpoint_id, tenant in sorted(due, key=lambda one: self._turns[one[0]]):
            if len(self._serving) >= MOST_AT_ONCE:
                return
            if endpoint_id in self._serving or busy[tenant] >= MOST_OF_A_TENANT or not self._is_good(tenant):
                continue
            busy[tenant] += 1
            self._num_turns += 1
            self._turns[endpoint_id] = self._num_turns
            task = asyncio.create_task(self._serve(endpoint_id), name=f"webhook-{endpoint_id}")
            self._serving[endpoint_id] = _Serving(tenant, task)

    async def _serve(self, endpoint_id: str) -> None:
        """Delivers what is due, until one fails."""
        try:
            while await self._deliver(endpoint_id):
                pass
        except StoreError as error:
            self._rest(error)
        except Exception:
            # Boundary of an endpoint: the others go on.
            _log.exception("- ! internal error in a webhook")
            self._rests_until = self._clock.now() + NO_STORE_PAUSE_S
        finally:
            self._serving.pop(endpoint_id, None)

    async def _deliver(self, endpoint_id: str) -> bool:
        """Whether it succeeded, and there may be more. Raises `StoreError`."""
        due = await self._store.ask(partial(rows.next_due, endpoint_id=endpoint_id, now=self._wall_time()))
        if due is None:
            return False
        endpoint, delivery = due
        answer = await self._post(endpoint, delivery.event_id, self._told(delivery))
        now = self._wall_time()
        status, next_try_at = self._fate(delivery, answer, now)
        attempted = partial(
            rows.record,
            delivery=delivery,
            status=status,
            next_try_at=next_try_at,
            status_code=answer.status_code,
            error=answer.error,
            is_gone=answer.is_gone,
            now=now,
        )
        await self._store.ask(attempted)
        self._on_attempt(status)
        return answer.is_success

    def _fate(self, delivery: Delivery, answer: Answer, now: float) -> tuple[DeliveryStatus, float | None]:
        """What becomes of it after an attempt, and when the next one is due."""
        if answer.is_success:
            return "delivered", None
        num_done = delivery.attempts + 1
        if answer.is_gone or num_done >= len(SCHEDULE_S):
            return "failed", None
        wait_s = SCHEDULE_S[num_done] * (1 + JITTER * self._draw())
        return "pending", now + max(wait_s, min(_asked_s(answer.retry_after, now), MAX_RETRY_AFTER_S))

    def _told(self, delivery: Delivery) -> bytes:
        """OpenAI's object. A clip that is gone has its id only."""
        clip: dict[str, Any] = {"id": delivery.video_id}
        if delivery.metadata is not None:
            clip["metadata"] = delivery.metadata
            if delivery.event_type == "video.completed":
                clip["content_url"] = self._link(delivery.video_id)
        return _body(delivery.event_id, delivery.event_type, delivery.event_at, clip)

    async def _post(self, endpoint: Endpoint, event_id: str, body: bytes) -> Answer:
        now = self._wall_time()
        headers = signing.headers(event_id, now, body, endpoint.secrets(now))
        return await self._sender.send(endpoint.url, headers, body)

    def _rest(self, error: StoreError) -> None:
        """Without the store an answer cannot be written down, and the event would be sent each second."""
        self._complain("- ! webhooks wait for the store: %s", error)
        self._rests_until = self._clock.now() + NO_STORE_PAUSE_S


def _asked_s(retry_after: str | None, now: float) -> float:
    """RFC 9110, section 10.2.3: seconds, or a date. What cannot be read is as good as none."""
    if retry_after is None:
        return 0.0
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:12])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0


def _body(event_id: str, kind: str, at: float, data: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"id": event_id, "object": "event", "type": kind, "created_at": int(at), "data": data})
