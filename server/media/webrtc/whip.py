"""Push of a program to an ingest: a WHIP client (RFC 9725), and the push that keeps it connected.

Owned by the session; `Publisher` is a `peer.Peer` of its program, which is composed and encoded for it as for a viewer,
and asked by the ingest for keyframes as by a viewer. Runs on the event loop, one task for each push.

Where to push is the operator's word (`config.WhipTarget`): a client knows targets by name. Addresses hold stream keys
and are treated as the tokens are: neither is logged, sent to a client, or part of an error's text.

Ends by themselves are only refusals that would be repeated (401, 404, an answer without H264). Everything else is tried
again for as long as the push is on, after 1, 2, 4 … 30 s, each shortened by up to half at random, so that an ingest
that comes back is not met by everybody at once.
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
# A session that ends waits for it.
DELETE_TIMEOUT_S = 1.0
MAX_REDIRECTS = 3
MAX_ANSWER_BYTES = 64 * 1024
FIRST_DELAY_S, MAX_DELAY_S = 1.0, 30.0
MAX_RETRY_AFTER_S = 300.0
# A connection that held so long was a good one: the next delay is the first again.
STEADY_S = 10.0
# Refusals that pass: a timeout, somebody else (or our last try) still publishes there, too many requests.
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
    """It did not work, and may the next time, but not before `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Push:
    """One program to one ingest: on from `start` until it is stopped or refused.

    `on_changed` hears of what changes by itself, not of `start` and `stop`.
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
        self._tasks: set[asyncio.Task[None]] = set()  # the present one, and one that is still saying goodbye

    @property
    def is_on(self) -> bool:
        return self.state in (PushState.CONNECTING, PushState.LIVE)

    def start(self) -> None:
        """Without effect while it is on."""
        if self.is_on:
            return
        self._move(PushState.CONNECTING, None)
        self._with_audio = True
        task = asyncio.create_task(self._run(frozenset(self._tasks)), name=f"push to {self.target.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """End it. The ingest is told in the background; `close` waits for that. Without effect while it is not on."""
        if self.state is not PushState.STOPPED:
            self._move(PushState.STOPPED, None)
            for task in self._tasks:
                task.cancel()

    async def close(self) -> None:
        """End it, and wait until nothing is left open. Idempotent."""
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
            self._enter(PushState.FAILED, "an error of the server's")

    def _delay_s(self, num_failures: int) -> float:
        return min(MAX_DELAY_S, FIRST_DELAY_S * 2.0**num_failures) * (1 - self._jitter() / 2)

    async def _connect(self, http: aiohttp.ClientSession) -> None:
        """One connection, from offer to loss. Never returns but by raising `PushInterrupted` or `PushRefused`."""
        publisher = self._program.new_publisher()
        whip = WhipClient(self.target, http)
        try:
            answer = checked_answer(await whip.post(await publisher.offer(with_audio=self._with_audio)))
            if self._with_audio and answer.rejects_audio:
                # aiortc would wait for ever for the rejected section to connect: offer what is taken instead.
                self._with_audio = False
                raise PushInterrupted("the ingest takes no sound")
            await publisher.accept(answer)
            if not await publisher.until_watching():
                raise PushInterrupted("the ingest answered, but no connection came about")
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
            # Not its text: that may hold the address.
            raise PushInterrupted(f"the ingest cannot be reached ({_kind(error)})") from None
        raise PushRefused(f"the ingest redirects more than {MAX_REDIRECTS} times")

    async def delete(self) -> None:
        """Tell the ingest that it is over, if there is anything to end. An ingest that does not hear it will notice."""
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
            logger.info("! push to %s: could not be ended there (%s)", self._target.name, _kind(error))

    def _allowed(self, base: str, location: str | None, what: str) -> str:
        """Where the ingest sends us: anywhere by https, else only to the host that the operator named, or loopback.

        The token goes with it, as in OBS: large ingests redirect to the machine that has room. Raises `PushRefused`.
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
    """201 is what we want (RFC 9725 section 4.2)."""
    status = response.status
    if status == 201:
        return
    if status in _PASSING or status >= 500:
        raise PushInterrupted(f"the ingest is not ready (HTTP {status})", _retry_after_s(response))
    meaning = {
        401: "does not accept the token",
        403: "does not accept the token",
        404: "knows nothing at this address",
        405: "does not speak WHIP at this address",
        410: "knows nothing at this address any more",
    }.get(status, "redirects as WHIP forbids" if 300 <= status < 400 else "does not take the offer")
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
    """What went wrong, without an address: the system's own word for it where there is one."""
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(inner, TimeoutError):
        return "no answer in time"
    if isinstance(inner, ConnectionRefusedError):
        return "connection refused"
    return type(inner).__name__
