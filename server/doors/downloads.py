"""Serves a session's downloads over plain HTTP: a snapshot of the picture on air, and its recordings.

Behind the middleware of `http_api.py`; both need the access token, if the server has one. Runs on the event loop. A
thread makes the snapshots, one at a time, so that many requests cannot disturb the programs' clocks.

Bounds: `MAX_WAITING` requests wait for a snapshot, and further ones are refused. The last `MAX_KEPT` snapshots are
kept, so that all who ask for the same frame get the same JPEG; the one that was not asked for the longest is dropped.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable

from aiohttp import web

from server.doors.access.gate import Gate
from server.media.program_format import ProgramFormat
from server.media.snapshot import key_of, snapshot
from server.protocol.errors import Refused
from server.session.recordings import Recordings
from server.session.registry import Registry
from server.stage.picture import Picture

MIN_SNAPSHOT_WIDTH, MAX_SNAPSHOT_WIDTH = 64, 1920
# Beside the one that is drawn: each takes some 10 ms.
MAX_WAITING = 8
# One is 60 KB at 832 pixels, 250 KB at 1920.
MAX_KEPT = 16
RETRY_AFTER_MS = 1000


class Downloads:
    def __init__(self, registry: Registry, gate: Gate, recordings: Recordings) -> None:
        self._registry = registry
        self._gate = gate
        self._recordings = recordings
        self._is_drawing = asyncio.Lock()
        self._num_waiting = 0
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/v1/sessions/{session_id}/snapshot.jpg", self._snapshot)
        router.add_get("/v1/sessions/{session_id}/recordings/{name}", self._recording)

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        """What is on air now; black while the program is blank."""
        session_id = request.match_info["session_id"]
        identity = self._gate.admit(request, "view", session_id)
        program_format = self._registry.find(session_id, identity.sees).program_format
        width = min(program_format.width, _width(request.query.get("width"), program_format.width))
        await self._wait_to_draw()
        try:
            session = self._registry.find(session_id, identity.sees)  # again, as it is after the wait
            body = await self._drawn(session.program.stage.last_picture, program_format, width)
        finally:
            self._is_drawing.release()
        return web.Response(body=body, content_type="image/jpeg")

    async def _wait_to_draw(self) -> None:
        """Raises `Refused` (`server_busy`)."""
        if self._num_waiting >= MAX_WAITING:
            reason = f"{MAX_WAITING} requests wait for a snapshot already"
            raise Refused("server_busy", reason, retry_after_ms=RETRY_AFTER_MS)
        self._num_waiting += 1
        try:
            await self._is_drawing.acquire()
        finally:
            self._num_waiting -= 1

    async def _drawn(self, picture: Picture, program_format: ProgramFormat, width: int) -> bytes:
        key = key_of(picture, program_format, width)
        if key not in self._kept:
            self._kept[key] = await asyncio.to_thread(snapshot, picture, program_format, width)
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    async def _recording(self, request: web.Request) -> web.StreamResponse:
        """The file, with range requests. A recording that still runs is served as far as it is written."""
        session_id, name = request.match_info["session_id"], request.match_info["name"]
        identity = self._gate.admit(request, "record", session_id, connects=True)
        path = self._recordings.find(identity.tenant, session_id, name)
        headers = {"Content-Disposition": f'attachment; filename="{path.name}"', "Content-Type": "video/mp4"}
        return web.FileResponse(path, headers=headers)


def _width(text: str | None, otherwise: int) -> int:
    """Raises `Refused`."""
    if text is None:
        return otherwise
    is_number = text.isascii() and text.isdigit() and len(text) <= 4
    if not is_number or not MIN_SNAPSHOT_WIDTH <= int(text) <= MAX_SNAPSHOT_WIDTH:
        reason = f"`width` must lie in {MIN_SNAPSHOT_WIDTH}..{MAX_SNAPSHOT_WIDTH}"
        raise Refused("invalid_value", reason, param="width")
    return int(text)
