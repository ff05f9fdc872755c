"""`POST /v1/sessions/{session_id}/show`: a page or a program puts a finished clip on a stage that it does not control.

It does what `program.show` does for the stage's controller, who gets the receipts. Behind the middleware of
`http_api.py`, on the event loop.
"""

from __future__ import annotations

import json

from aiohttp import web

from server.doors import json_http
from server.doors.access.gate import Gate
from server.protocol.decoding import decode
from server.protocol.errors import Refused
from server.protocol.messages import ProgramShow
from server.session.registry import Registry


class ShowApi:
    def __init__(self, registry: Registry, gate: Gate) -> None:
        self._registry = registry
        self._gate = gate

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/v1/sessions/{session_id}/show", self._show)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        """Answers with the id of the clip's prompt when the stage has accepted it."""
        session_id = request.match_info["session_id"]
        identity = self._gate.admit(request, "prompt", session_id)
        # Another tenant's stage looks like none, even to an operator, who may only watch it.
        session = self._registry.find(session_id, identity.tenant)
        message = await _message(request)
        if (wait_s := session.limits.prompts.take()) > 0:
            raise Refused("rate_limited", "this stage gets too many prompts", retry_after_ms=round(wait_s * 1000) + 1)
        self._gate.payer(request, identity).prompt()
        prompt_id = await session.prompts.show(message)
        return json_http.answer({"prompt_id": prompt_id})


async def _message(request: web.Request) -> ProgramShow:
    """The body has the fields of `program.show`. Raises `Refused`."""
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Refused("invalid_json", "expected one JSON object")
    message = decode(json.dumps({**body, "type": "program.show", "event_id": None}))
    assert isinstance(message, ProgramShow)
    return message
