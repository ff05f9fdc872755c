"""WHEP as players use it: a real server, real aiortc viewers, and a stranger's attempts."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientResponse
from aioice.ice import get_host_addresses
from serving import Controller, Serving, serving
from viewer import Viewer

from server.media.webrtc import sdpfrag
from server.media.webrtc.ice import bind_udp
from server.media.webrtc.signalling import MAX_CANDIDATES

TOKEN = "0123456789abcdef0123"
SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
STAGE = "https://stage.example"


@pytest.fixture
async def harness() -> AsyncIterator[Serving]:
    async with serving() as harness:
        yield harness


@pytest.fixture
async def controller(harness: Serving) -> Controller:
    return await harness.controller(name="my-show")


@pytest.fixture
async def viewer() -> AsyncIterator[Viewer]:
    viewer = Viewer()
    yield viewer
    await viewer.close()


async def code_of(response: ClientResponse) -> tuple[int, str]:
    return response.status, (await response.json())["error"]["code"]


class Watching:
    """A viewer by WHEP, and its address."""

    def __init__(self, harness: Serving, response: ClientResponse, offer: str) -> None:
        self.http = harness.http
        self.location = response.headers["Location"]
        self.etag = response.headers["ETag"]
        self.ufrag = re.search(r"a=ice-ufrag:(\S+)", offer)[1]  # type: ignore[index]

    async def patch(self, *candidates: str, ufrag: str | None = None, **headers: str) -> ClientResponse:
        fragment = f"a=ice-ufrag:{ufrag or self.ufrag}\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n"
        fragment += "m=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n" + "".join(f"{line}\r\n" for line in candidates)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.patch(self.location, data=fragment, headers=FRAGMENT | named)


async def watch(harness: Serving, viewer: Viewer, offer: str | None = None, path: str = "/whep/my-show") -> Watching:
    offer = offer or await viewer.offer()
    async with harness.http.post(path, data=offer, headers=SDP) as response:
        assert response.status == 201, await response.text()
        await viewer.answer(await response.text())
        return Watching(harness, response, offer)


async def test_a_viewer_comes_watches_and_leaves(harness: Serving, controller: Controller, viewer: Viewer) -> None:
    watching = await watch(harness, viewer)
    assert re.fullmatch(r"/whep/my-show/viewer_[0-9a-f]+", watching.location)
    await controller.apply("scene 5")
    await viewer.until_number(5)
    async with harness.http.delete(watching.location, headers={"If-Match": '"any"'}) as response:
        assert response.status == 200
    async with harness.http.delete(watching.location) as response:
        assert await code_of(response) == (404, "unknown_viewer")
    assert await code_of(await watching.patch()) == (404, "unknown_viewer")


# --- trickle ------------------------------------------------------------------------------------------------------


async def test_trickled_candidates_are_tried(harness: Serving, controller: Controller, viewer: Viewer) -> None:
    """The offer has no candidates, so the server reaches the waiting viewer only by trickled ones."""
    offer = await viewer.offer()
    lines = offer.splitlines(keepends=True)
    trickled = [line.strip() for line in lines if line.startswith("a=candidate:")]
    bare = "".join(line for line in lines if not line.startswith(("a=candidate:", "a=end-of")))
    watching = await watch(harness, viewer, bare)
    response = await watching.patch(*trickled, "a=end-of-candidates", if_match=watching.etag)
    assert response.status == 204
    (session,) = harness.registry._sessions.values()
    (peer,) = session.program._peers.values()
    remote = peer._connection.getTransceivers()[0].receiver.transport.transport.getRemoteCandidates()
    assert {int(line.split()[5]) for line in trickled} <= {candidate.port for candidate in remote}
    await viewer.until(lambda frame: True)


@pytest.mark.parametrize("if_match", [None, "*", "{etag}", 'W/"x", {etag}'])
async def test_the_entity_tag_may_be_left_out(
    harness: Serving, controller: Controller, viewer: Viewer, if_match: str | None
) -> None:
    watching = await watch(harness, viewer)
    headers = {} if if_match is None else {"if_match": if_match.format(etag=watching.etag)}
    assert (await watching.patch(**headers)).status == 204


async def test_another_ice_session_is_refused(harness: Serving, controller: Controller, viewer: Viewer) -> None:
    watching = await watch(harness, viewer)
    assert await code_of(await watching.patch(if_match='"other"')) == (412, "etag_mismatch")
    restart = await watching.patch(ufrag="another", if_match="*")
    assert await code_of(restart) == (422, "ice_restart_not_supported")
    wrong = await harness.http.patch(watching.location, data="", headers=SDP)
    assert await code_of(wrong) == (415, "unsupported_media_type")
    bad = await watching.patch("a=candidate:1 one udp x 192.0.2.1 y typ host z")
    assert await code_of(bad) == (400, "invalid_sdp")
    await viewer.until(lambda frame: True)  # and none of it did any harm


async def test_a_huge_fragment_is_refused_and_a_flood_of_candidates_is_cut(
    harness: Serving, controller: Controller, viewer: Viewer
) -> None:
    watching = await watch(harness, viewer)
    async with harness.http.patch(watching.location, data=b"a" * 2**20, headers=FRAGMENT) as response:
        assert await code_of(response) == (413, "message_too_large")
    flood = [f"a=candidate:1 1 udp 1 192.0.2.1 {port} typ host" for port in range(1000, 3000)]
    assert await code_of(await watching.patch(*flood)) == (400, "invalid_sdp")
    flood = flood[:600]
    for _ in range(2):
        assert (await watching.patch(*flood)).status == 204
    (session,) = harness.registry._sessions.values()
    (peer,) = session.program._peers.values()
    assert (
        len(peer._connection.getTransceivers()[0].receiver.transport.transport.getRemoteCandidates())
        <= 2 * MAX_CANDIDATES
    )


def test_a_fragment_names_the_section_of_each_candidate() -> None:
    one, two = "candidate:1 1 udp 1 192.0.2.1 5000 typ host", "candidate:2 1 udp 1 192.0.2.1 5001 typ host"
    text = f"a=ice-ufrag:abcd\r\nm=audio 9 X 0\r\na=mid:a\r\na={one}\r\nm=video 9 X 0\r\na=mid:v\r\na={two}\r\na=x"
    fragment = sdpfrag.parsed(text)
    assert [(c.text, c.mid, c.mline_index) for c in fragment.candidates] == [(one, "a", 0), (two, "v", 1)]
    assert fragment.ufrags == {"abcd"}
    before_any = sdpfrag.parsed(f"a={one}")
    assert (before_any.candidates[0].mid, before_any.candidates[0].mline_index) == (None, 0)


# --- around it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
async def test_other_methods_are_refused_with_the_allowed_ones(
    harness: Serving, controller: Controller, viewer: Viewer, method: str
) -> None:
    watching = await watch(harness, viewer)
    for path, allowed in [("/whep/my-show", {"OPTIONS", "POST"}), (watching.location, {"OPTIONS", "PATCH", "DELETE"})]:
        async with harness.http.request(method, path) as response:
            assert response.status == 405
            assert set(response.headers["Allow"].split(", ")) == allowed
            if method != "HEAD":
                assert await code_of(response) == (405, "method_not_allowed")


async def test_a_stage_that_has_not_begun_is_refused_with_a_retry_time(harness: Serving, viewer: Viewer) -> None:
    async with harness.http.post("/whep/my-show", data=await viewer.offer(), headers=SDP) as response:
        assert await code_of(response) == (404, "unknown_session")
        assert response.headers["Retry-After"] == "2"
    async with harness.http.post("/whep/s0123456789abcdef", data="v=0", headers=SDP) as response:
        assert response.status == 404 and "Retry-After" not in response.headers
    await harness.controller(name="my-show")
    await watch(harness, viewer)


async def test_a_page_of_an_allowed_origin_can_read_all_headers_that_it_needs(viewer: Viewer) -> None:
    async with serving(token=TOKEN, allowed_origins=(STAGE,)) as harness:
        await harness.controller(name="my-show", token=TOKEN)
        await _ask_as_a_page_of_another_origin(harness, viewer)


async def _ask_as_a_page_of_another_origin(harness: Serving, viewer: Viewer) -> None:
    asked = {"Origin": STAGE, "Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "if-match"}
    async with harness.http.options("/whep/my-show/viewer_1", headers=asked) as response:
        assert response.status == 204
        assert response.headers["Accept-Post"] == "application/sdp"
        assert response.headers["Access-Control-Allow-Origin"] == STAGE
        assert {"POST", "PATCH", "DELETE"} <= set(response.headers["Access-Control-Allow-Methods"].split(", "))
        assert "If-Match" in response.headers["Access-Control-Allow-Headers"]
    headers = SDP | {"Origin": STAGE, "Authorization": f"Bearer {TOKEN}"}
    async with harness.http.post("/whep/my-show", data=await viewer.offer(), headers=headers) as response:
        assert response.status == 201
        assert {"Location", "ETag", "Link"} <= set(response.headers["Access-Control-Expose-Headers"].split(", "))
    async with harness.http.post("/whep/nobody", data="v=0", headers=headers) as response:
        assert response.status == 404 and response.headers["Access-Control-Allow-Origin"] == STAGE
    for origin in ("https://evil.example", "null"):
        async with harness.http.post("/whep/my-show", data="v=0", headers=SDP | {"Origin": origin}) as response:
            assert await code_of(response) == (403, "forbidden_origin")
            assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("path", ["/whep/my-show", "/v1/realtime/calls"])
async def test_a_rebound_host_name_gets_nothing(harness: Serving, controller: Controller, path: str) -> None:
    headers = SDP | {"Host": "evil.example", "Origin": "http://evil.example"}
    async with harness.http.post(path, data="v=0", headers=headers) as response:
        assert await code_of(response) == (403, "forbidden_host")


@pytest.mark.parametrize("headers", [{"Authorization": f"Bearer {TOKEN}"}, {}])
async def test_a_server_with_a_token_refuses_viewers_without_it(viewer: Viewer, headers: dict[str, str]) -> None:
    async with serving(token=TOKEN) as harness:
        await harness.controller(name="my-show", token=TOKEN)
        for method, path in [("POST", ""), ("PATCH", "/viewer_1"), ("DELETE", "/viewer_1")]:
            async with harness.http.request(method, "/whep/my-show" + path, data="v=0", headers=SDP) as response:
                assert await code_of(response) == (401, "unauthorized")
                assert response.headers["WWW-Authenticate"] == "Bearer"
        query = "" if headers else f"?token={TOKEN}"
        async with harness.http.post(
            "/whep/my-show" + query, data=await viewer.offer(), headers=SDP | headers
        ) as response:
            assert response.status == 201


# --- ICE servers --------------------------------------------------------------------------------------------------


async def test_players_and_controllers_are_told_the_ice_servers(viewer: Viewer) -> None:
    servers = ("stun:127.0.0.1:9", "turn:127.0.0.1:9?transport=tcp")
    settings: dict[str, Any] = {"ice_servers": servers, "turn_secret": "north-wind", "public_address": "203.0.113.7"}
    async with serving(token=TOKEN, **settings) as harness:
        await harness.controller(name="my-show", token=TOKEN)
        async with harness.http.post(
            f"/whep/my-show?token={TOKEN}", data=await viewer.offer(), headers=SDP
        ) as response:
            stun, turn = response.headers.getall("Link")
            assert "203.0.113.7" in await response.text()
        assert stun == '<stun:127.0.0.1:9>; rel="ice-server"'
        assert re.fullmatch(
            r'<turn:127\.0\.0\.1:9\?transport=tcp>; rel="ice-server"; username="\d+:my-show"; '
            r'credential="[\w+/=]+"; credential-type="password"',
            turn,
        )
        # A preflight has no token, and gets no credentials.
        async with harness.http.options("/whep/my-show") as response:
            assert "Link" not in response.headers
        async with harness.http.options(f"/whep/my-show?token={TOKEN}") as response:
            assert len(response.headers.getall("Link")) == 2


async def test_session_created_lists_ice_servers_in_the_form_of_browsers() -> None:
    async with serving(ice_servers=("stun:127.0.0.1:9", "turn:127.0.0.1:9"), turn_secret="north-wind") as harness:
        socket = await harness.http.ws_connect("/v1/realtime")
        controller = Controller(harness.http, socket)
        stun, turn = (await controller.start())["ice_servers"]
        assert stun == {"urls": ["stun:127.0.0.1:9"]}
        assert turn["urls"] == ["turn:127.0.0.1:9"] and turn["username"].endswith(controller.session_id)
    async with serving() as harness:
        controller = Controller(harness.http, await harness.http.ws_connect("/v1/realtime"))
        assert (await controller.start())["ice_servers"] == []


async def test_a_server_without_a_free_udp_port_says_so(viewer: Viewer) -> None:
    taken = []
    try:
        for address in get_host_addresses(use_ipv4=True, use_ipv6=True):
            port = taken[0].getsockname()[1] if taken else 0
            taken.append(bind_udp(address, (port, port) if port else None))
        port = taken[0].getsockname()[1]
        async with serving(udp_ports=(port, port)) as harness:
            await harness.controller(name="my-show")
            async with harness.http.post("/whep/my-show", data=await viewer.offer(), headers=SDP) as response:
                assert await code_of(response) == (503, "too_many_viewers")
                assert response.headers["Retry-After"] == "5"
    finally:
        for one in taken:
            one.close()
