"""Clips by a server that runs: `POST /v1/videos`, polling, and a download that goes on where it stopped.

Each clip has an idempotency key, so a repeated request and a repeated run make nothing twice. A server that restarts
loses nothing, so we wait for it for a while. On the event loop.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from server.clock import Clock
from server.doors.videos.wishes import REFERENCE
from server.generate.maker import MOST_AT_ONCE, Failed, Made, MakerError, Outcome
from server.generate.wanted import Wanted
from server.generate.work_folder import WorkFolder

PATH = "/v1/videos"
# A server that is started again is back in seconds; a large model needs a minute.
SILENT_S = 120.0
# At first: the address may be wrong.
FIRST_ANSWER_S = 5.0
PAUSE_S = 1.0
# Who must wait for longer, for example for tomorrow's budget, had better start again then.
MOST_PAUSE_S = 120.0
_MIN_POLL_MS, _MAX_POLL_MS = 50, 10_000
_CHUNK_BYTES = 256 * 1024
# Answers that the next clip would get, too.
_ENDS_THE_RUN = ("unauthorized", "missing_scope", "storage_full", "token_needed_behind_proxy")
_LATER = (429, 502, 503, 504)


class _Refused(Exception):
    """The server's answer about one clip."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class RemoteMaker:
    """Implements `maker.Maker`."""

    def __init__(
        self,
        url: str,
        token: str | None,
        work: WorkFolder,
        *,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._work = work
        self._clock = clock
        self._say = say
        self._silent_s = FIRST_ANSWER_S  # how long a server that does not answer is waited for
        self._silent_since = 0.0
        self._http: aiohttp.ClientSession | None = None
        self._clip_s: float | None = None  # of the model's own clip
        self._percents: dict[str, int] = {}  # of the clips in the making
        self._ordering = asyncio.Lock()
        self._is_silent = False
        self._told_waits: set[str] = set()  # codes, each told once

    async def open(self) -> str:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=30.0)
        self._http = aiohttp.ClientSession(self._url, headers=headers, timeout=timeout)
        try:
            await self._ask("GET", f"{PATH}?limit=1")
            self._silent_s = SILENT_S
            known, _ = await self._ask("GET", "/readyz")  # not before the engine is there
        except _Refused as refused:
            raise MakerError(f"{self._url} makes no clips for us: {refused} ({refused.code})") from None
        seconds = known.get("clip_s")
        self._clip_s = max(0.5, seconds) if isinstance(seconds, int | float) else None
        return f"the server {self._url} makes them, with the model {known.get('model')}"

    async def outcomes(self, wanted: Sequence[Wanted]) -> AsyncGenerator[Outcome, None]:
        waiting = iter(wanted)
        making: set[asyncio.Task[Outcome]] = set()
        try:
            while True:
                while len(making) < MOST_AT_ONCE and (one := next(waiting, None)) is not None:
                    making.add(asyncio.create_task(self._make(one), name=f"clip-{one.where or one.output}"))
                if not making:
                    return
                done, making = await asyncio.wait(making, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            for task in making:
                task.cancel()
            await asyncio.gather(*making, return_exceptions=True)

    async def forget(self, outcome: Outcome) -> None:
        """The server keeps what it has made, for as long as it keeps clips."""
        if isinstance(outcome, Made):
            await asyncio.to_thread(outcome.file.unlink, missing_ok=True)
        elif outcome.video_id:
            with suppress(_Refused):
                await self._ask("DELETE", f"{PATH}/{outcome.video_id}")

    @property
    def done_of_unfinished(self) -> float:
        return sum(self._percents.values()) / 100

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    # --- one clip -------------------------------------------------------------------------------------------------

    async def _make(self, wanted: Wanted) -> Outcome:
        video_id = ""
        try:
            async with self._ordering:  # so that the server gets them in the order of the list
                video, headers = await self._order(wanted)
            video_id = _id_of(video)
            while video.get("status") in ("queued", "in_progress"):
                self._percents[video_id] = _percent(video)
                await self._clock.sleep_until(self._clock.now() + _poll_s(headers))
                video, headers = await self._ask("GET", f"{PATH}/{video_id}")
            if video.get("status") != "completed":
                error = video.get("error") or {}
                return Failed(wanted, video_id, str(error.get("code")), str(error.get("message")))
            file = await self._download(video_id)
        except _Refused as refused:
            return Failed(wanted, video_id, refused.code, str(refused))
        finally:
            self._percents.pop(video_id, None)
        words = tuple(map(str, video.get("not_understood") or ()))
        engine_s = float(video.get("engine_s") or 0.0)
        return Made(wanted, video_id, file, int(video.get("seed") or 0), float(video["seconds"]), engine_s, words)

    async def _order(self, wanted: Wanted) -> tuple[dict[str, Any], Any]:
        fields = dict(wanted.fields)
        if self._clip_s is not None:
            fields.setdefault("seconds", self._clip_s)
        headers = {"Idempotency-Key": self._work.key(wanted)}
        if REFERENCE not in fields:
            return await self._ask("POST", PATH, headers=headers, json=fields)

        def form() -> aiohttp.FormData:  # one form is good for one request
            made = aiohttp.FormData()
            for name, value in fields.items():
                if isinstance(value, bytes):
                    made.add_field(name, value, filename="picture", content_type="application/octet-stream")
                else:
                    made.add_field(name, str(value))
            return made

        return await self._ask("POST", PATH, headers=headers, form=form)

    async def _download(self, video_id: str) -> Path:
        """Goes on with what an interrupted download has left. A clip never changes, so the rest fits."""
        file = self._work.path / f"{video_id}.mp4"
        while True:
            try:
                if await self._fetch(video_id, file):
                    self._is_silent = False
                    return file
            except (aiohttp.ClientError, TimeoutError) as error:
                await self._wait_for_server(error)

    async def _fetch(self, video_id: str, file: Path) -> bool:
        """Whether the file is whole now."""
        offset = file.stat().st_size if file.exists() else 0
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        assert self._http is not None
        async with self._http.get(f"{PATH}/{video_id}/content", headers=headers) as response:
            if response.status == 416:  # nothing is left to fetch, or the file is none of this clip
                is_whole = response.headers.get("Content-Range") == f"bytes */{offset}"
                if not is_whole:
                    file.unlink()
                return is_whole
            if response.status not in (200, 206):
                await self._check(response)
                return False
            with await asyncio.to_thread(file.open, "ab" if response.status == 206 else "wb", 0) as opened:
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    await asyncio.to_thread(opened.write, chunk)
        return True

    # --- requests -------------------------------------------------------------------------------------------------

    async def _ask(
        self, method: str, path: str, form: Callable[[], aiohttp.FormData] | None = None, **more: Any
    ) -> tuple[dict[str, Any], Any]:
        """The answer and its headers, asked for until there is one. Raises `_Refused`, `MakerError`."""
        assert self._http is not None
        while True:
            if form is not None:
                more["data"] = form()
            try:
                async with self._http.request(method, path, **more) as response:
                    if await self._check(response):
                        body = await response.json()
                        self._is_silent = False
                        if isinstance(body, dict):
                            return body, response.headers
                        raise _Refused("wrong_type", "the answer is no JSON object")
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                await self._wait_for_server(error)

    async def _check(self, response: aiohttp.ClientResponse) -> bool:
        """False: ask again now; the pause is over. Raises `_Refused`, `MakerError`."""
        if response.status < 400:
            return True
        try:
            answer = await response.json()
            code, message = str(answer["error"]["code"]), str(answer["error"]["message"])
        except (aiohttp.ClientError, ValueError, KeyError, TypeError):
            code, message = f"http_{response.status}", f"the server answers with status {response.status}"
        if response.status in _LATER:
            pause_s = _retry_after_s(response)
            if code not in self._told_waits:
                self._told_waits.add(code)
                self._say(f"waiting for {self._url}: {message}")
            if pause_s > MOST_PAUSE_S:
                raise MakerError(f"the server takes no more clips for {pause_s:.0f} s: {message} ({code})")
            await self._clock.sleep_until(self._clock.now() + pause_s)
            return False
        if code in _ENDS_THE_RUN:
            raise MakerError(f"{self._url}: {message} ({code})")
        raise _Refused(code, message)

    async def _wait_for_server(self, error: Exception) -> None:
        """Raises `MakerError` when it has been silent for too long."""
        now = self._clock.now()
        if not self._is_silent:
            self._is_silent, self._silent_since = True, now
            self._say(f"{self._url} does not answer ({type(error).__name__}); waiting for it")
        if now - self._silent_since >= self._silent_s:
            raise MakerError(f"{self._url} has not answered for {self._silent_s:.0f} s")
        await self._clock.sleep_until(now + PAUSE_S)


def _id_of(video: dict[str, Any]) -> str:
    """It names a file here, so it is checked. Raises `_Refused`."""
    video_id = video.get("id")
    if not isinstance(video_id, str) or not re.fullmatch(r"\w{1,128}", video_id, re.ASCII):
        raise _Refused("wrong_type", "the server's answer names no clip")
    return video_id


def _percent(video: dict[str, Any]) -> int:
    progress = video.get("progress")
    return min(100, max(0, progress)) if isinstance(progress, int) else 0


def _poll_s(headers: Any) -> float:
    text = headers.get("openai-poll-after-ms", "1000")
    told = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 1000
    return min(_MAX_POLL_MS, max(_MIN_POLL_MS, told)) / 1000


def _retry_after_s(response: aiohttp.ClientResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 9 else PAUSE_S
