"""Serves a session's downloads over plain HTTP: a snapshot of the picture on air, and its recordings.

Behind the middleware of `http_api.py`; both need the access token, if the server has one. Runs on the event loop. A
thread makes the snapshots, one at a time, so that many requests cannot disturb the programs' clocks.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from server.doors.access.auth import Access
from server.media.snapshot import snapshot
from server.protocol.errors import Refused
from server.session.recordings import Recordings
from server.session.registry import Registry

MIN_SNAPSHOT_WIDTH, MAX_SNAPSHOT_WIDTH = 64, 1920


class Downloads:
    def __init__(self, registry: Registry, access: Access, recordings: Recordings) -> None:
        self._registry = registry
        self._access = access
        self._recordings = recordings
        self._is_drawing = asyncio.Lock()

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/v1/sessions/{session_id}/snapshot.jpg", self._snapshot)
        router.add_get("/v1/sessions/{session_id}/recordings/{name}", self._recording)

    async def _snapshot(self, request: web.Request) -> web.StreamResponse:
        """What is on air now; black while the program is blank."""
        self._access.admit(request.headers, request.query, "view", request.match_info["session_id"])
        program_format = self._registry.find(request.match_info["session_id"]).program_format
        width = min(program_format.width, _width(request.query.get("width"), program_format.width))
        async with self._is_drawing:
            session = self._registry.find(request.match_info["session_id"])  # again, as it is after the wait
            body = await asyncio.to_thread(snapshot, session.program.stage.last_picture, program_format, width)
        return web.Response(body=body, content_type="image/jpeg")

    async def _recording(self, request: web.Request) -> web.StreamResponse:
        """The file, with range requests. A recording that still runs is served as far as it is written."""
        self._access.admit(request.headers, request.query, "record", request.match_info["session_id"])
        name = request.match_info["name"]
        path = self._recordings.find(request.match_info["session_id"], name)
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
