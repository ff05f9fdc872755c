"""The OBS page and the widget over HTTP: who may load and frame them, and that they need no token."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from engine.synthetic import SyntheticEngine
from server import app as server_app
from server.config import Settings
from server.doors.client_scripts import without_comments
from server.doors.pages import CLIENT_FOLDER

SHOP = "https://shop.example"
STRANGER = {"Origin": "https://stranger.example"}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client of a server that has a token and allows one other site."""
    settings = Settings(token="0123456789abcdef0123", allowed_origins=(SHOP,))
    app = server_app.build(settings, SyntheticEngine())
    async with server_app.running(app, server_app.listen("127.0.0.1", 0)) as port:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", auto_decompress=False) as http:
            yield http


async def test_other_sites_may_load_scripts_and_nothing_else(http: aiohttp.ClientSession) -> None:
    for path in ("/client/widget/live-scene.js", "/client/favicon.svg"):
        async with http.get(path, headers=STRANGER) as response:
            assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (200, "*"), path
    for path in ("/", "/obs/my-show", "/widget", "/readyz"):
        async with http.get(path, headers=STRANGER) as response:
            assert response.status == 403, path
            assert "Access-Control-Allow-Origin" not in response.headers
    async with http.post("/client/widget/live-scene.js", headers=STRANGER) as response:
        assert response.status == 403


async def test_scripts_are_sent_as_gzip_to_clients_that_accept_it(http: aiohttp.ClientSession) -> None:
    script = without_comments(Path(CLIENT_FOLDER / "shared" / "screen.js").read_text()).encode()
    async with http.get("/client/shared/screen.js", headers={"Accept-Encoding": "gzip, br"}) as response:
        assert gzip.decompress(await response.read()) == script
        etag = response.headers["ETag"]
    async with http.get("/client/shared/screen.js", headers={"Accept-Encoding": "identity"}) as response:
        assert (await response.read(), response.headers["Vary"]) == (script, "Accept-Encoding")
    async with http.get(
        "/client/shared/screen.js", headers={"Accept-Encoding": "gzip", "If-None-Match": etag}
    ) as response:
        assert (response.status, await response.read()) == (304, b"")


@pytest.mark.parametrize(
    ("path", "frame_ancestors"),
    [
        ("/widget", f"frame-ancestors 'self' {SHOP}"),
        ("/obs/my-show", "frame-ancestors 'self'"),
        ("/", "frame-ancestors 'self'"),
    ],
)
async def test_each_page_says_who_may_frame_it(http: aiohttp.ClientSession, path: str, frame_ancestors: str) -> None:
    async with http.get(path) as response:
        assert response.status == 200, "no token: the page gets it from the fragment"
        policy = [part.strip() for part in response.headers["Content-Security-Policy"].split(";")]
        assert frame_ancestors in policy
        assert "default-src 'self'" in policy
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == "no-cache"


async def test_obs_may_add_its_custom_style(http: aiohttp.ClientSession) -> None:
    async with http.get("/obs/any-name-will-do") as response:
        assert "style-src 'self' 'unsafe-inline'" in response.headers["Content-Security-Policy"]


# What browsers say of a request (Fetch Metadata) that a page of another site makes.
PICTURE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
SCRIPT = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
FRAME = LINK | {"Sec-Fetch-Dest": "iframe"}
OURS = PICTURE | {"Sec-Fetch-Site": "same-origin"}
TYPED = LINK | {"Sec-Fetch-Site": "none"}
SNAPSHOT = "/v1/sessions/my-show/snapshot.jpg"


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        (PICTURE, SNAPSHOT, 403),
        (PICTURE, "/livez", 403),
        (PICTURE, "/", 403),
        (PICTURE | {"Origin": SHOP}, SNAPSHOT, 401),  # allowed by name; it lacks the token
        (PICTURE | {"Origin": "null"}, SNAPSHOT, 403),
        (LINK, SNAPSHOT, 403),
        (LINK, "/metrics", 403),
        (LINK, "/", 200),
        (LINK, "/studio", 200),
        (FRAME, "/widget", 200),  # `frame-ancestors` says who may
        (SCRIPT, "/client/widget/live-scene.js", 200),
        (PICTURE, "/client/favicon.svg", 200),
        (OURS, SNAPSHOT, 401),
        (TYPED, SNAPSHOT, 401),
        ({}, SNAPSHOT, 401),
    ],
)
async def test_pages_of_other_sites_load_only_scripts_and_link_only_to_pages(
    http: aiohttp.ClientSession, headers: dict[str, str], path: str, status: int
) -> None:
    async with http.get(path, headers=headers) as response:
        assert response.status == status
        if status == 403:
            assert b"forbidden_origin" in await response.read()


@pytest.mark.parametrize(
    ("path", "resource_policy", "camera"),
    [
        ("/", "same-origin", "camera=()"),
        ("/studio", "same-origin", "camera=(self)"),
        (SNAPSHOT, "same-origin", "camera=()"),
        ("/client/widget/live-scene.js", "cross-origin", "camera=()"),
        ("/client/studio/output.html", "cross-origin", "camera=()"),
    ],
)
async def test_no_other_site_may_embed_our_pictures_or_hold_our_windows(
    http: aiohttp.ClientSession, path: str, resource_policy: str, camera: str
) -> None:
    async with http.get(path) as response:
        assert response.headers["Cross-Origin-Resource-Policy"] == resource_policy
        assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert camera in response.headers["Permissions-Policy"].split(", ")
