"""Pushes a program to an ingest: a WHIP client (RFC 9725), and the push that keeps it connected.

Owned by the session. A push connects a `Publisher`, a `peer.Peer` of the program, which counts as a viewer: the program
is composed and encoded for it, and it may ask for keyframes. Runs on the event loop, one task for each push.

The operator configures the targets (`config.WhipTarget`); clients know only their names. Addresses hold stream keys, so
they are secret like the tokens: neither is logged, sent to a client, or part of an error's text.

A push ends by itself only after a refusal that would be repeated (401, 404, an answer without H264). After any other
failure it tries again as long as it is on, after 1, 2, 4 … 30 s. Each delay is shortened by up to half at random, so
that an ingest that comes back does not get all pushes at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol
from urllib.parse import SplitResult, urljoin, urlsplit

import aiohttp

from server.clock import Clock
from server.config import WhipTarget, is_loopback
from server.media.webrtc.signalling import Answer, OfferError, checked_answer

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 10.0
# The end of a session waits for it.
DELETE_TIMEOUT_S = 1.0
MAX_REDIRECTS = 3
MAX_ANSWER_BYTES = 64 * 1024
FIRST_DELAY_S, MAX_DELAY_S = 1.0, 30.0
MAX_RETRY_AFTER_S = 300.0
# After a connection that lasted this long, the next delay is the first again.
STEADY_S = 10.0
# Temporary refusals: a timeout, another publisher (or our last try) is still there, too many requests.
_PASSING = frozenset({408, 409, 425, 429})


class PushState(StrEnum):
    CONNECTING = "connecting"
    LIVE = "live"
    FAILED = "failed"
    STOPPED = "stopped"


NEXT_PUSH_STATE: dict[PushState, set[PushState]] = {
    PushState.CONNECTING: {PushState.CONNECTING, PushState.LIVE, PushState.FAILED, PushState.STOPPED},
    PushState.LIVE: {PushState.CONNECTING, PushState.STOPPED},
    PushState.FAILED: {PushState.CONNECTING, PushState.STOPPED},
    PushState.STOPPED: {PushState.CONNECTING},
}


class Publisher(Protocol):
    """What a push needs of `peer.Peer`."""

    viewer_id: str
    lost_reason: str | None

    async def offer(self, *, with_audio: bool) -> str: ...
    async def accept(self, answer: Answer) -> None: ...
    async def until_watching(self) -> bool: ...
    async def until_lost(self) -> None: ...


class Publishing(Protocol):
    """What a push needs of `program.Program`."""

    def new_publisher(self) -> Publisher: ...
    async def remove_viewer(self, viewer_id: str) -> None: ...


class PushRefused(Exception):
    """The ingest will not take the program, now or later. The message is for the session's controller."""


class PushInterrupted(Exception):
    """The push failed, but may work later, not before `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Push:
    """One program to one ingest: on from `start` until it is stopped or refused.

    `on_changed` is called for changes that happen by themselves, not for `start` and `stop`.
    """

    def __init__(
        self,
        target: WhipTarget,
        program: Publishing,
        *,
        clock: Clock,
        on_changed: Callable[[Push], None],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.target = target
        self.state = PushState.STOPPED
        self.detail: str | None = None
        self._program = program
        self._clock = clock
        self._on_changed = on_changed
        self._jitter = jitter
        self._with_audio = True
        self._tasks: set[asyncio.Task[None]] = set()  # the present one, and one that still ends its session

    @property
    def is_on(self) -> bool:
        return self.state in (PushState.CONNECTING, PushState.LIVE)

    def start(self) -> None:
        """Begins the push. Does nothing while it is on."""
        if self.is_on:
            return
        self._move(PushState.CONNECTING, None)
        self._with_audio = True
        task = asyncio.create_task(self._run(frozenset(self._tasks)), name=f"push to {self.target.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """End the push. The ingest is told in the background; `close` waits for that. Idempotent."""
        if self.state is not PushState.STOPPED:
            self._move(PushState.STOPPED, None)
            for task in self._tasks:
                task.cancel()

    async def close(self) -> None:
        """End the push and wait until nothing is left open. Idempotent."""
        self.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- the task ---------------------------------------------------------------------------------------------------

    async def _run(self, predecessors: frozenset[asyncio.Task[None]]) -> None:
        num_failures = 0
        try:
            if predecessors:
                await asyncio.wait(predecessors)
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)) as http:
                while True:
                    begun_at = self._clock.now()
                    try:
                        await self._connect(http)
                    except PushInterrupted as interruption:
                        if self._clock.now() - begun_at >= STEADY_S:
                            num_failures = 0
                        delay_s = max(self._delay_s(num_failures), interruption.retry_after_s)
                        num_failures += 1
                        self._enter(PushState.CONNECTING, f"{interruption}; next try in {delay_s:.0f} s")
                        await self._clock.sleep_until(self._clock.now() + delay_s)
        except PushRefused as refusal:
            self._enter(PushState.FAILED, str(refusal))
        except Exception:
            # Task boundary: the program and its viewers go on without this push.
            logger.exception("! the push to %s failed", self.target.name)
            self._enter(PushState.FAILED, "internal server error")

    def _delay_s(self, num_failures: int) -> float:
        return min(MAX_DELAY_S, FIRST_DELAY_S * 2.0**num_failures) * (1 - self._jitter() / 2)

    async def _connect(self, http: aiohttp.ClientSession) -> None:
        """One connection, from offer to loss. Always ends by raising `PushInterrupted` or `PushRefused`."""
        publisher = self._program.new_publisher()
        whip = WhipClient(self.target, http)
        try:
            answer = checked_answer(await whip.post(await publisher.offer(with_audio=self._with_audio)))
            if self._with_audio and answer.rejects_audio:
                # aiortc would wait forever for the rejected section to connect, so offer again without sound.
                self._with_audio = False
                raise PushInterrupted("the ingest takes no sound")
            await publisher.accept(answer)
            if not await publisher.until_watching():
                raise PushInterrupted("the ingest answered, but did not connect")
            self._enter(PushState.LIVE, None)
            await publisher.until_lost()
            raise PushInterrupted(f"the connection was lost ({publisher.lost_reason})")
        except OfferError as error:
            if error.code == "too_many_viewers":
                raise PushInterrupted(error.message) from None
            raise PushRefused(f"the ingest's answer cannot be used: {error.message}") from None
        finally:
            await self._program.remove_viewer(publisher.viewer_id)
            await whip.delete()

    def _enter(self, state: PushState, detail: str | None) -> None:
        self._move(state, detail)
        self._on_changed(self)

    def _move(self, state: PushState, detail: str | None) -> None:
        if state not in NEXT_PUSH_STATE[self.state]:
            raise RuntimeError(f"a push cannot go from {self.state} to {state}")
        self.state, self.detail = state, detail


class WhipClient:
    """One WHIP session: `post` makes it, `delete` ends it."""

    def __init__(self, target: WhipTarget, http: aiohttp.ClientSession) -> None:
        self._target = target
        self._http = http
        self._headers = {"Authorization": f"Bearer {target.token}"} if target.token is not None else {}
        self._resource: str | None = None

    async def post(self, offer: str) -> str:
        """The answer to our offer. Raises `PushRefused` and `PushInterrupted`."""
        url = self._target.url
        headers = self._headers | {"Content-Type": "application/sdp", "Accept": "application/sdp"}
        try:
            for _ in range(1 + MAX_REDIRECTS):
                async with self._http.post(
                    url, data=offer.encode(), headers=headers, allow_redirects=False
                ) as response:
                    if response.status in (307, 308):
                        url = self._allowed(url, response.headers.get("Location"), "redirects to")
                        continue
                    _check_status(response)
                    if location := response.headers.get("Location"):
                        self._resource = self._allowed(url, location, "names as its session")
                    return await _answer(response)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            # Without the error's text, which may hold the address.
            raise PushInterrupted(f"the ingest cannot be reached ({_kind(error)})") from None
        raise PushRefused(f"the ingest redirects more than {MAX_REDIRECTS} times")

    async def delete(self) -> None:
        """Tell the ingest to end its session, if there is one. An ingest that misses this will notice by itself."""
        resource, self._resource = self._resource, None
        if resource is None:
            return
        try:
            timeout = aiohttp.ClientTimeout(total=DELETE_TIMEOUT_S)
            async with self._http.delete(
                resource, headers=self._headers, allow_redirects=False, timeout=timeout
            ) as response:
                logger.info("= push to %s: ended, %d", self._target.name, response.status)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            logger.info("! push to %s: the ingest could not be told of its end (%s)", self._target.name, _kind(error))

    def _allowed(self, base: str, location: str | None, what: str) -> str:
        """An address from the ingest: any host by https, else only the host that the operator named, or loopback.

        The token is sent there, too, as in OBS, because large ingests redirect to a free machine. Raises `PushRefused`.
        """
        parts = urlsplit(urljoin(base, location or ""))
        configured = urlsplit(self._target.url)
        is_named = parts.scheme == "http" == configured.scheme and (
            _host(parts) == _host(configured)
            or (is_loopback(parts.hostname or "") and is_loopback(configured.hostname or ""))
        )
        if not location or not parts.hostname or not (parts.scheme == "https" or is_named):
            raise PushRefused(f"the ingest {what} an address that is neither https nor the one that was configured")
        return parts.geturl()


def _host(parts: SplitResult) -> tuple[str | None, int | None]:
    return parts.hostname, parts.port


def _check_status(response: aiohttp.ClientResponse) -> None:
    """Only 201 is success (RFC 9725 section 4.2)."""
    status = response.status
    if status == 201:
        return
    if status in _PASSING or status >= 500:
        raise PushInterrupted(f"the ingest is not ready (HTTP {status})", _retry_after_s(response))
    meaning = {
        401: "does not accept the token",
        403: "does not accept the token",
        404: "has nothing at this address",
        405: "does not speak WHIP at this address",
        410: "has nothing at this address any more",
    }.get(status, "redirects in a way that WHIP forbids" if 300 <= status < 400 else "does not take the offer")
    raise PushRefused(f"the ingest {meaning} (HTTP {status})")


def _retry_after_s(response: aiohttp.ClientResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return min(MAX_RETRY_AFTER_S, float(text)) if text.isascii() and text.isdigit() else 0.0


async def _answer(response: aiohttp.ClientResponse) -> str:
    if response.content_type != "application/sdp":
        raise PushRefused("the ingest did not answer with application/sdp")
    body = b""
    async for part in response.content.iter_chunked(16 * 1024):
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            raise PushRefused(f"the ingest's answer has more than {MAX_ANSWER_BYTES} bytes")
    return body.decode("utf-8", "replace")


def _kind(error: Exception) -> str:
    """The error's kind, without an address: the system's own word if there is one."""
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(inner, TimeoutError):
        return "no answer in time"
    if isinstance(inner, ConnectionRefusedError):
        return "connection refused"
    return type(inner).__name__
