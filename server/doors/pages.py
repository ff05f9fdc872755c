"""Serves the pages beside the console, and decides who may load and frame them.

`http_api.py` takes routes and headers from here. The pages hold no secret: a page gets the token from the fragment of
its address, which browsers never send. Runs on the event loop.
"""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

from aiohttp import web

from server.doors.access.auth import Access

CLIENT_FOLDER = Path(__file__).parent.parent.parent / "client_web"
SCRIPTS_PREFIX = "/client/"
# A worker has the policy of its own file, not its page's. So this worker may compile WebAssembly, and no page may.
_SEGMENTER = "/client/studio/segmenter_worker.js"
_POLICY = {
    "default-src": "'self'",
    "img-src": "'self' data:",
    "media-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
}


# What a page could ask its visitor for. Ours need the camera, and only in the studio.
_PERMISSIONS = ("camera", "microphone", "geolocation", "display-capture", "usb", "serial", "hid", "midi", "payment")


def permissions(**allowed: str) -> str:
    """The `Permissions-Policy` of a page that may use these features and no others."""
    return ", ".join(f"{feature}={allowed.get(feature, '()')}" for feature in _PERMISSIONS)


class Pages:
    """See the module."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/obs/{session_id}", self._obs)
        router.add_get("/widget", self._widget)
        router.add_get("/studio", self._studio)
        router.add_get("/operator", self._operator)
        router.add_get("/clips", self._clips)

    async def _obs(self, request: web.Request) -> web.StreamResponse:
        # Any name will do: the page waits for a session that is not there yet.
        return web.FileResponse(CLIENT_FOLDER / "obs" / "index.html")

    async def _widget(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(CLIENT_FOLDER / "widget" / "index.html")

    async def _studio(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(CLIENT_FOLDER / "studio" / "index.html")

    async def _operator(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(CLIENT_FOLDER / "operator" / "index.html")

    async def _clips(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(CLIENT_FOLDER / "clips" / "index.html")

    @staticmethod
    def is_public(request: web.Request) -> bool:
        """Scripts and styles, which pages of every origin may load: `<script type="module">` sends an `Origin`."""
        return request.method in ("GET", "HEAD") and request.path.startswith(SCRIPTS_PREFIX)

    @staticmethod
    def is_visit(request: web.Request) -> bool:
        """A navigation to a page: by a link, or in a frame, where `frame-ancestors` says who may."""
        return request.headers.get("Sec-Fetch-Mode") == "navigate" and Pages.is_page(request)

    @staticmethod
    def is_page(request: web.Request) -> bool:
        return request.path in ("/", "/widget", "/studio", "/operator", "/clips") or request.path.startswith(
            ("/obs/", SCRIPTS_PREFIX)
        )

    @staticmethod
    def compress(request: web.Request, response: web.StreamResponse) -> None:
        """Compresses scripts for clients that accept gzip: the widget must stay small for its host page."""
        if not Pages.is_public(request) or not isinstance(response, web.Response):
            return  # files of the static route go from disk to the socket as they are
        response.headers["Vary"] = "Accept-Encoding"
        if response.status == HTTPStatus.OK and "gzip" in request.headers.get("Accept-Encoding", "").lower():
            response.enable_compression(web.ContentCoding.gzip)

    def set_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Sets the headers that differ from the common ones of `http_api.py`."""
        if self.is_public(request):
            response.headers["Access-Control-Allow-Origin"] = "*"
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            if request.path == _SEGMENTER:
                response.headers["Content-Security-Policy"] = _policy({"script-src": "'self' 'wasm-unsafe-eval'"})
        elif request.path == "/widget":
            response.headers["Content-Security-Policy"] = _policy(
                {"frame-ancestors": " ".join(("'self'", *self._access.allowed_origins))}
            )
        elif request.path == "/studio":
            response.headers["Content-Security-Policy"] = _policy({"frame-ancestors": "'self'"})
            response.headers["Permissions-Policy"] = permissions(camera="(self)")
        elif request.path.startswith("/obs/"):
            # OBS puts the "custom CSS" of a browser source into the page as an inline style.
            response.headers["Content-Security-Policy"] = _policy(
                {"style-src": "'self' 'unsafe-inline'", "frame-ancestors": "'self'"}
            )


def _policy(more: dict[str, str]) -> str:
    return "; ".join(f"{directive} {sources}" for directive, sources in (_POLICY | more).items())
