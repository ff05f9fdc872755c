"""Plain HTTP: the console page, health and metrics, and the checks and headers that all routes share.

`guard` is the middleware of every route, also of the WebSocket and WHEP; `set_headers` runs before each answer is sent.
Runs on the event loop; knows sessions through the registry.
"""

from __future__ import annotations

import dataclasses
import logging
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from server.clock import Clock
from server.doors import sockets
from server.doors.access.auth import PROTOCOL
from server.doors.access.gate import Gate
from server.doors.client_scripts import ClientScripts
from server.doors.pages import CLIENT_FOLDER, SCRIPTS_PREFIX, Pages, permissions
from server.metrics import Metrics
from server.protocol.codes import ErrorDetail, error_detail
from server.protocol.decoding import MAX_MESSAGE_BYTES
from server.protocol.errors import Refused
from server.protocol.table import ROUTES
from server.rarely import Rarely
from server.session.registry import Registry
from server.store.store import StoreError

_log = logging.getLogger(__name__)

# Scripts, styles and connections are our own only; previews are data URIs, Media Source Extensions play blobs.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address may hold a token
    # No other site may show our pictures, or hold the window of a page of ours. The studio and its output window have
    # both the same policy and origin, so they keep each other.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": permissions(),
}
# What pages of other origins may use, if the origin is allowed by name (CORS).
_OPEN_TO_OTHERS = tuple({route.path.partition("{")[0] for route in ROUTES if route.is_open_to_origins})
_EXPOSED = "Location, ETag, Link, Retry-After, Sceneshift-Session, Sceneshift-Resume-Token"
STATUS = {
    "unauthorized": HTTPStatus.UNAUTHORIZED,
    "missing_scope": HTTPStatus.FORBIDDEN,
    "forbidden_host": HTTPStatus.FORBIDDEN,
    "forbidden_origin": HTTPStatus.FORBIDDEN,
    "token_needed_behind_proxy": HTTPStatus.FORBIDDEN,
    "unknown_session": HTTPStatus.NOT_FOUND,
    "unknown_viewer": HTTPStatus.NOT_FOUND,
    "unknown_call": HTTPStatus.NOT_FOUND,
    "unknown_key": HTTPStatus.NOT_FOUND,
    "unknown_video": HTTPStatus.NOT_FOUND,
    "unknown_webhook": HTTPStatus.NOT_FOUND,
    "unknown_model": HTTPStatus.NOT_FOUND,
    "not_offered": HTTPStatus.NOT_FOUND,
    # Not 409 or 5xx, which OpenAI's clients send again by themselves.
    "not_ready": HTTPStatus.NOT_FOUND,
    "storage_full": HTTPStatus.FORBIDDEN,
    "too_many_webhooks": HTTPStatus.FORBIDDEN,
    "webhook_unreachable": HTTPStatus.FAILED_DEPENDENCY,
    "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "name_taken": HTTPStatus.CONFLICT,
    "etag_mismatch": HTTPStatus.PRECONDITION_FAILED,
    "ice_restart_not_supported": HTTPStatus.UNPROCESSABLE_ENTITY,
    "server_full": HTTPStatus.SERVICE_UNAVAILABLE,
    "server_busy": HTTPStatus.SERVICE_UNAVAILABLE,
    "unknown_recording": HTTPStatus.NOT_FOUND,
    "unsupported_media_type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "rate_limited": HTTPStatus.TOO_MANY_REQUESTS,
    "budget_exhausted": HTTPStatus.TOO_MANY_REQUESTS,
    "message_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "too_many_viewers": HTTPStatus.SERVICE_UNAVAILABLE,
    "draining": HTTPStatus.SERVICE_UNAVAILABLE,
    "internal_error": HTTPStatus.INTERNAL_SERVER_ERROR,
}


# A full disk may have room again soon.
STORE_RETRY_MS = 5000
# An `Origin` is the client's text.
MAX_LOGGED_ORIGIN = 100


class HttpApi:
    def __init__(self, registry: Registry, gate: Gate, metrics: Metrics, clock: Clock) -> None:
        self._registry = registry
        self._gate = gate
        self._access = gate.access
        self._metrics = metrics
        self._pages = Pages(gate.access)
        self._warn_of_origin = Rarely(clock)
        self._complain_of_store = Rarely(clock, _log.error)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/", self._page)
        ClientScripts(CLIENT_FOLDER).add_routes(router, SCRIPTS_PREFIX)
        router.add_static(SCRIPTS_PREFIX, CLIENT_FOLDER)
        self._pages.add_routes(router)
        router.add_get("/livez", self._livez)
        router.add_get("/readyz", self._readyz)
        router.add_get("/metrics", self._metrics_page)

    def guard(self) -> Middleware:
        """The middleware. aiohttp marks it with an attribute, which a bound method cannot have."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._guarded(request, handler)

        return guard

    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses forbidden proxies, hosts, origins and bodies, and guessed tokens; turns `Refused` into an answer."""
        try:
            self._access.check_proxy(request.headers)
            self._check_origin(request)
            _check_encoding(request)
            self._gate.check_guesses(request)
            response = await handler(request)
            self._pages.compress(request, response)
            return response
        except Refused as refusal:
            return await self._refused(request, refusal.detail)
        except web.HTTPRequestEntityTooLarge:
            reason = f"a body has at most {MAX_MESSAGE_BYTES} bytes"
            return _error(error_detail("message_too_large", reason))
        except web.HTTPMethodNotAllowed as refusal:
            allowed = ", ".join(sorted(refusal.allowed_methods))
            answer = _error(error_detail("method_not_allowed", f"expected {allowed}, got {request.method}"))
            answer.headers["Allow"] = allowed
            return answer
        except web.HTTPException:
            raise
        except StoreError as error:
            self._complain_of_store("- ! %s %s: %s", request.method, request.path, error)
            reason = "the server's store cannot be read or written now; its disk may be full"
            return _error(error_detail("server_busy", reason, retry_after_ms=STORE_RETRY_MS))
        except Exception as error:
            # Boundary of a request: its sender is told, and other requests go on.
            if not (isinstance(error, ConnectionError | TimeoutError) and _has_left(request)):
                _log.exception("- ! internal error in %s %s", request.method, request.path)
            return _error(error_detail("internal_error", "internal server error"))

    async def _refused(self, request: web.Request, detail: ErrorDetail) -> web.StreamResponse:
        self._metrics.refused(detail.code)
        self._gate.note_refusal(request, detail.code)
        if detail.code != "forbidden_origin":
            return _error(detail)
        origin = request.headers.get("Origin", "-")[:MAX_LOGGED_ORIGIN]
        self._warn_of_origin("- ! a page of %r was refused; --allowed-origins lets it in", origin)
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return _error(detail)
        # A browser hides the status of a refused upgrade from its page, which would try again for ever.
        socket = web.WebSocketResponse(
            autoping=False, autoclose=False, max_msg_size=MAX_MESSAGE_BYTES, compress=False, protocols=(PROTOCOL,)
        )
        await socket.prepare(request)
        await sockets.refuse(socket, request, detail)
        return socket

    def _check_origin(self, request: web.Request) -> None:
        host, origin = request.headers.get("Host"), request.headers.get("Origin")
        if not self._access.is_known_host(host):
            reason = "this server answers to loopback names only; name others in `allowed_origins`"
            raise Refused("forbidden_host", reason)
        if self._pages.is_public(request):
            return
        is_foreign = self._access.is_foreign_fetch(request.headers) and not self._pages.is_visit(request)
        if is_foreign or not self._access.is_known_origin(origin, host):
            reason = "pages of this origin may not connect; name it in `allowed_origins` if it should"
            raise Refused("forbidden_origin", reason)

    # --- the page -------------------------------------------------------------------------------------------------

    async def _page(self, request: web.Request) -> web.StreamResponse:
        # No token needed: the page holds no secret, and gets the token from the fragment, which is never sent to us.
        return web.FileResponse(CLIENT_FOLDER / "console" / "index.html")

    # --- health ---------------------------------------------------------------------------------------------------

    async def _livez(self, request: web.Request) -> web.StreamResponse:
        """503 when only a new process can help: see `Registry.complaint`."""
        complaint = self._registry.complaint
        if complaint is None:
            return web.json_response({"live": True})
        return web.json_response({"live": False, "reason": complaint}, status=HTTPStatus.SERVICE_UNAVAILABLE)

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        """200 if the engine's present process has made a real generation, and the server is alive and not draining."""
        registry = self._registry
        model = registry.engine.model
        body: dict[str, Any] = {
            "ready": registry.is_ready,
            "engine": registry.engine.state.value,
            "draining": registry.is_draining,
            "model": model.name if model else None,
            "device": model.device if model else None,
            "can_start_from_frame": model.can_start_from_frame if model else False,
            "loras": list(model.loras) if model else [],
            "clip_s": round(model.loop_s, 3) if model else None,
            "startup_s": round(registry.startup_s, 3) if registry.startup_s is not None else None,
        }
        # The report names files and memory of this machine, so it needs the token.
        if self._gate.may(request, "admin"):
            report = registry.engine.report()
            body["report"] = dataclasses.asdict(report) if report is not None else None
            body["costs"] = [dataclasses.asdict(cost) for cost in registry.engine.costs()]
        return web.json_response(body, status=HTTPStatus.OK if registry.is_ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def _metrics_page(self, request: web.Request) -> web.StreamResponse:
        self._gate.admit(request, "admin")
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._metrics.render(), headers=headers)

    async def set_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """For `on_response_prepare`."""
        response.headers.update(_HEADERS)
        if request.path.startswith(_OPEN_TO_OTHERS):
            response.headers["Vary"] = "Origin"
            origin = request.headers.get("Origin")
            if origin is not None and self._access.is_allowed_origin(origin):
                response.headers["Access-Control-Allow-Origin"] = origin
                response.headers["Access-Control-Expose-Headers"] = _EXPOSED
                response.headers["Access-Control-Allow-Methods"] = "POST, PATCH, DELETE, OPTIONS"
                response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, If-Match"
                response.headers["Access-Control-Max-Age"] = "600"
        # Nothing here may go stale: the page of an old version would speak to a new server.
        response.headers["Cache-Control"] = "no-cache" if self._pages.is_page(request) else "no-store"
        self._pages.set_headers(request, response)


def _has_left(request: web.Request) -> bool:
    """Whether its sender is gone, perhaps before the end of the body."""
    return request.transport is None or request.transport.is_closing()


def _check_encoding(request: web.Request) -> None:
    """Refuses compressed bodies: our clients send none, and a small one may expand to a large one."""
    encoding = ", ".join(request.headers.getall("Content-Encoding", []))
    if encoding.strip().lower() not in ("", "identity"):
        raise Refused("unsupported_media_type", f"expected a body without Content-Encoding, got {encoding[:64]}")


class _ErrorBody(msgspec.Struct, frozen=True):
    error: ErrorDetail


def _error(detail: ErrorDetail) -> web.Response:
    status = STATUS.get(detail.code, HTTPStatus.BAD_REQUEST)
    headers = {"WWW-Authenticate": "Bearer"} if status is HTTPStatus.UNAUTHORIZED else {}
    if detail.retry_after_ms is not None:
        headers["Retry-After"] = str(-(-detail.retry_after_ms // 1000))
    body = msgspec.json.encode(_ErrorBody(detail))
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
