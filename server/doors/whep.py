"""The WHEP endpoint (draft-ietf-wish-whep): for players that we did not write, and pages that only watch.

A player POSTs an offer. The answer comes with 201, a `Location` for PATCH (candidates) and DELETE, an `ETag` for this
ICE session, and `Link` headers for ICE servers. It finds sessions through the registry. Runs on the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from secrets import token_hex

from aiohttp import web

from server.doors.access.client_secrets import Identity
from server.doors.access.gate import Gate
from server.media.webrtc import sdpfrag
from server.media.webrtc.ice import Ice
from server.media.webrtc.signalling import OfferError
from server.protocol.errors import Refused
from server.protocol.messages import IceServer
from server.session.registry import Registry
from server.session.session import Session

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"


@dataclass(frozen=True, slots=True)
class _IceSession:
    """What a PATCH must match: the entity tag that we gave, and the name that the viewer's ICE agent gave itself."""

    etag: str
    ufrags: frozenset[str]
    let_go: Callable[[], None]  # of its key or secret


class WhepApi:
    def __init__(self, registry: Registry, gate: Gate, ice: Ice) -> None:
        self._registry = registry
        self._gate = gate
        self._ice = ice
        self._ice_sessions: dict[tuple[Session, str], _IceSession] = {}  # as many as there are viewers by WHEP

    def add_routes(self, router: web.UrlDispatcher) -> None:
        endpoint, viewer = "/whep/{session_id}", "/whep/{session_id}/{viewer_id}"
        router.add_post(endpoint, self._offer)
        router.add_options(endpoint, self._options)
        router.add_patch(viewer, self._patch)
        router.add_delete(viewer, self._delete)
        router.add_options(viewer, self._options)

    async def _offer(self, request: web.Request) -> web.StreamResponse:
        session, identity = self._find(request, connects=True)
        _check_type(request, SDP)
        offer_sdp = (await request.read()).decode("utf-8", "replace")
        etag, ufrags = f'"{token_hex(8)}"', sdpfrag.ufrags(offer_sdp)
        viewer_id, answer_sdp = await session.viewers.add(
            offer_sdp,
            address=self._gate.peers.of(request),
            payer=self._gate.payer(request, identity),
            on_gone=lambda viewer_id: self._forget(session, viewer_id),
        )
        end = partial(self._registry.drop_viewer, session, viewer_id)
        ice_session = _IceSession(etag, ufrags, self._gate.keyring.hold(identity, end))
        self._ice_sessions[session, viewer_id] = ice_session
        response = web.Response(status=HTTPStatus.CREATED, text=answer_sdp, content_type=SDP)
        response.headers["Location"] = f"/whep/{session.session_id}/{viewer_id}"
        response.headers["ETag"] = ice_session.etag
        response.headers["Accept-Patch"] = FRAGMENT
        self._add_links(response, session.session_id)
        return response

    async def _patch(self, request: web.Request) -> web.StreamResponse:
        """Trickled candidates (RFC 8840). Another `ice-ufrag` asks for an ICE restart, which aiortc does not do."""
        session, _ = self._find(request)
        viewer_id = request.match_info["viewer_id"]
        ice_session = self._ice_sessions.get((session, viewer_id))
        if ice_session is None:
            raise Refused("unknown_viewer", "there is no such viewer; it may have left")
        _check_type(request, FRAGMENT)
        try:
            fragment = sdpfrag.parsed((await request.read()).decode("utf-8", "replace"))
        except OfferError as error:
            raise Refused(error.code, error.message, param="sdp") from None
        # `If-Match: *` may ask for a restart (RFC 9725, section 4.3.3); its new ufrag tells it apart.
        if not _matches(request.headers.get("If-Match"), ice_session.etag):
            raise Refused("etag_mismatch", "`If-Match` names another ICE session than this viewer's")
        if not fragment.ufrags <= ice_session.ufrags:
            raise Refused("ice_restart_not_supported", "this server does not restart ICE; send a new offer instead")
        for candidate in fragment.candidates:
            await session.viewers.add_candidate(viewer_id, candidate.text, candidate.mid, candidate.mline_index)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        session, _ = self._find(request)
        await session.viewers.remove(request.match_info["viewer_id"])
        return web.Response()

    async def _options(self, request: web.Request) -> web.StreamResponse:
        """Answers a browser's CORS preflight, and a player that asks for ICE servers."""
        response = web.Response(status=HTTPStatus.NO_CONTENT, headers={"Accept-Post": SDP})
        # A preflight has no token, and TURN credentials are not for everybody.
        if self._gate.may(request, "view"):
            self._add_links(response, "viewer")
        return response

    def _find(self, request: web.Request, *, connects: bool = False) -> tuple[Session, Identity]:
        session_id = request.match_info["session_id"]
        identity = self._gate.admit(request, "view", session_id, connects=connects)
        return self._registry.find(session_id, identity.sees), identity

    def _forget(self, session: Session, viewer_id: str) -> None:
        if (ice_session := self._ice_sessions.pop((session, viewer_id), None)) is not None:
            ice_session.let_go()

    def _add_links(self, response: web.Response, name: str) -> None:
        for server in self._ice.client_servers(name):
            for url in server.urls:
                response.headers.add("Link", _link(url, server))


def _link(url: str, server: IceServer) -> str:
    link = f'<{url}>; rel="ice-server"'
    if server.username is not None:
        link += f'; username="{server.username}"; credential="{server.credential}"; credential-type="password"'
    return link


def _matches(if_match: str | None, etag: str) -> bool:
    """A missing `If-Match` matches, because the fragment names the ICE session, too."""
    if if_match is None or if_match.strip() == "*":
        return True
    return etag in (one.strip() for one in if_match.split(","))


def _check_type(request: web.Request, expected: str) -> None:
    if request.content_type != expected:
        raise Refused("unsupported_media_type", f"expected {expected}, got {request.content_type}")
