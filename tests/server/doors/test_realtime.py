"""The whole server except the model: real aiohttp, a real WebSocket client, a real program, the synthetic engine.

The synthetic engine paints the prompt's number into its pixels, so that what a viewer sees can be read.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from viewer import Viewer
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from engine.api import CostEntry, Engine, EngineReport
from engine.clip_cache.caching_engine import CacheSettings, CachingEngine
from engine.synthetic import Fault, Script, SyntheticEngine, read
from server import app as server_app
from server.config import Settings
from server.doors.websocket import HEARTBEAT_S
from server.protocol.decoding import MAX_MESSAGE_BYTES
from server.session.session import SessionState

TOKEN = "0123456789abcdef0123"
# Fast, so that a test takes as long as it must, and slow enough that steps and frames can be told apart.
SCRIPT = Script(step_s=0.01, decode_s=0.01)


class Client:
    """A controller over a real socket. Keeps all messages that it gets."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.heard: list[dict[str, Any]] = []

    async def say(self, kind: str, **fields: object) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def hear(self, *kinds: str) -> dict[str, Any]:
        """The next event of one of these types. Events before it are kept in `heard`."""
        while True:
            message = json.loads(await self.socket.recv())
            self.heard.append(message)
            if message["type"] in kinds:
                return message

    async def start(self, **options: object) -> dict[str, Any]:
        await self.say("session.start", **options)
        return await self.hear("session.created", "error")

    async def apply(self, text: str, **fields: object) -> dict[str, Any]:
        """Sends a prompt and waits until it is applied."""
        await self.say("prompt.set", text=text, **fields)
        while True:
            applied = await self.hear("prompt.applied", "prompt.failed", "error")
            assert applied["type"] == "prompt.applied", applied
            return applied

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [message for message in self.heard if message["type"] in kinds]


class Server:
    """A running server, and clients of it."""

    def __init__(self, port: int, registry: Any, stack: AsyncExitStack) -> None:
        self.port = port
        self.registry = registry
        self._stack = stack

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def connect(self, query: str = "", **options: Any) -> Client:
        socket = connect(f"ws://127.0.0.1:{self.port}/v1/realtime{query}", max_size=None, **options)
        return Client(await self._stack.enter_async_context(socket))

    async def http(self) -> aiohttp.ClientSession:
        return await self._stack.enter_async_context(aiohttp.ClientSession(self.url))


StartServer = Callable[..., Awaitable[Server]]


@pytest.fixture
async def start_server() -> AsyncIterator[StartServer]:
    async with AsyncExitStack() as stack:

        async def start(
            script: Script = SCRIPT, heartbeat_s: float = 60.0, engine: Engine | None = None, **settings: Any
        ) -> Server:
            app = server_app.build(Settings(**settings), engine or SyntheticEngine(script), heartbeat_s=heartbeat_s)
            listener = server_app.listen("127.0.0.1", 0)
            port = await stack.enter_async_context(server_app.running(app, listener))
            return Server(port, app[server_app.REGISTRY], stack)

        yield start


@pytest.fixture
async def server(start_server: StartServer) -> Server:
    return await start_server()


@pytest.fixture
async def client(server: Server) -> Client:
    client = await server.connect()
    await client.start()
    return client


@pytest.fixture
async def viewer() -> AsyncIterator[Viewer]:
    viewer = Viewer()
    yield viewer
    await viewer.close()


# --- the way of a prompt ------------------------------------------------------------------------------------------


async def test_a_prompt_becomes_a_picture_at_the_viewer(client: Client, viewer: Viewer) -> None:
    await client.say("webrtc.offer", sdp=await viewer.offer())
    await viewer.answer((await client.hear("webrtc.answer"))["sdp"])
    await viewer.until(lambda frame: True)
    applied = await client.apply("scene 42")
    await viewer.until_number(42)
    assert applied["frame"]["rtp_timestamp"] is not None
    assert applied["timings"]["total_ms"] > 0
    await client.apply("scene 7")
    await viewer.until_number(7)
    ends = client.of("prompt.applied", "prompt.superseded", "prompt.cancelled", "prompt.failed", "prompt.rejected")
    assert len(ends) == 2


async def test_a_viewer_sees_a_scene_continue_and_then_a_morph(start_server: StartServer, viewer: Viewer) -> None:
    script = Script(step_s=0.01, decode_s=0.01, num_frames=7, can_start_from_frame=True)
    client = await (await start_server(script)).connect()
    await client.start(on_preview="off", after="continue")
    await client.say("webrtc.offer", sdp=await viewer.offer())
    await viewer.answer((await client.hear("webrtc.answer"))["sdp"])
    await client.apply("scene 5")
    indices = [(await client.hear("prompt.continued"))["index"] for _ in range(3)]
    assert indices == [1, 2, 3]
    await client.apply("scene 9", transition="morph", after="loop")
    await viewer.until(lambda frame: (read(frame.to_ndarray(format="yuv420p")) or (0, 0))[0] == 9)
    assert not client.of("error", "prompt.failed")


async def test_events_are_numbered_without_gaps(client: Client) -> None:
    await client.apply("scene 1")
    await client.apply("scene 2")
    assert [message["seq"] for message in client.heard] == list(range(len(client.heard)))
    assert len({message["session_id"] for message in client.heard}) == 1


async def test_thirty_prompts_at_once_end_in_one_picture(start_server: StartServer) -> None:
    """The newest is applied, the others are superseded, and no superseded prompt is finished."""
    server = await start_server()
    client = await server.connect()
    await client.start()
    for number in range(30):
        await client.say("prompt.set", text=f"scene {number}", prompt_id=f"n{number}")
    applied = await client.hear("prompt.applied")
    assert applied["prompt_id"] == "n29"
    assert [message["prompt_id"] for message in client.of("prompt.superseded")] == [f"n{n}" for n in range(29)]
    statistics = server.registry.engine.statistics()
    assert (statistics.num_finished, statistics.in_flight) == (1, 0)


async def test_whep_viewers_see_the_same_program(server: Server, client: Client, viewer: Viewer) -> None:
    session_id = client.heard[0]["session_id"]
    http = await server.http()
    offer = await viewer.offer()
    async with http.post(f"/whep/{session_id}", data=offer, headers={"Content-Type": "application/sdp"}) as response:
        assert (response.status, response.content_type) == (201, "application/sdp")
        location = response.headers["Location"]
        await viewer.answer(await response.text())
    await client.apply("scene 5")
    await viewer.until_number(5)
    async with http.delete(location) as response:
        assert response.status == 200
    async with http.delete(location) as response:
        assert response.status == 404
        assert (await response.json())["error"]["code"] == "unknown_viewer"


async def test_an_engine_loss_is_reported_and_the_prompt_is_generated_again(start_server: StartServer) -> None:
    server = await start_server(Script(step_s=0.01, decode_s=0.01, faults={3: Fault.LOSE}))
    client = await server.connect()
    await client.start()
    await client.apply("scene 3")
    assert [message["code"] for message in client.of("session.warning")] == ["engine_lost", "engine_recovered"]
    assert [message["attempt"] for message in client.of("prompt.started")] == [1, 2]


# --- bad input ----------------------------------------------------------------------------------------------------

OFFER_WITHOUT_VIDEO = """v=0\r
o=- 1 1 IN IP4 127.0.0.1\r
s=-\r
t=0 0\r
m=audio 9 UDP/TLS/RTP/SAVPF 111\r
c=IN IP4 0.0.0.0\r
a=mid:0\r
a=recvonly\r
a=rtcp-mux\r
a=ice-ufrag:abcd\r
a=ice-pwd:abcdefghijklmnopqrstuvwx\r
a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r
a=setup:actpass\r
a=rtpmap:111 opus/48000/2\r
"""

OFFER_OF_OTHER_CODECS = (
    OFFER_WITHOUT_VIDEO.replace("m=audio", "m=video").replace("111 opus/48000/2", "96 VP9/90000").replace(" 111", " 96")
)

BAD_INPUT: dict[str, tuple[str | bytes, str]] = {
    "not json": ("hello", "invalid_json"),
    "wrong type": ('{"type":"prompt.set","text":5}', "wrong_type"),
    "unknown field": ('{"type":"prompt.set","text":"sea","colour":"red"}', "unknown_field"),
    "unknown event": ('{"type":"prompt.pause"}', "unknown_event"),
    "a message of 1 MiB": ('{"type":"prompt.set","text":"' + "a" * 2**20 + '"}', "message_too_large"),
    "empty prompt": ('{"type":"prompt.set","text":""}', "prompt_empty"),
    "prompt of 10,000 characters": (json.dumps({"type": "prompt.set", "text": "海" * 10_000}), "prompt_too_long"),
    "lone surrogate": ('{"type":"prompt.set","text":"\\ud83d"}', "invalid_text"),
    "nan": ('{"type":"session.update","transition_s":NaN}', "invalid_value"),
    "second session": ('{"type":"session.start"}', "session_exists"),
    "offer that is not sdp": ('{"type":"webrtc.offer","sdp":"hello"}', "invalid_sdp"),
    "offer without video": (json.dumps({"type": "webrtc.offer", "sdp": OFFER_WITHOUT_VIDEO}), "no_video"),
    "offer without a codec of ours": (
        json.dumps({"type": "webrtc.offer", "sdp": OFFER_OF_OTHER_CODECS}),
        "no_video_codec",
    ),
    "candidate without an offer": ('{"type":"webrtc.candidate","candidate":""}', "not_connected"),
    "binary frame": (b'{"type":"session.ping"}', "binary_not_supported"),
}


@pytest.mark.parametrize(("text", "code"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
async def test_bad_input_has_its_code_and_the_session_lives(client: Client, text: str | bytes, code: str) -> None:
    await client.socket.send(text)
    error = await client.hear("error")
    assert error["error"]["code"] == code
    assert error["session_id"] == client.heard[0]["session_id"]
    await client.apply("scene 1")


async def test_a_second_offer_replaces_the_first_peer(server: Server, client: Client, viewer: Viewer) -> None:
    first = Viewer()
    for peer in (first, viewer):
        await client.say("webrtc.offer", sdp=await peer.offer())
        await peer.answer((await client.hear("webrtc.answer"))["sdp"])
    await first.close()
    await client.apply("scene 9")
    await viewer.until_number(9)
    (session,) = server.registry._sessions.values()
    assert session.program.num_viewers == 1


async def test_a_prompt_before_the_session_is_refused_and_then_it_works(server: Server) -> None:
    client = await server.connect()
    await client.say("prompt.set", text="scene 1", event_id="e1")
    error = await client.hear("error")
    assert (error["error"]["code"], error["error"]["event_id"]) == ("no_session", "e1")
    assert (error["session_id"], error["seq"]) == (None, -1)
    await client.start()
    await client.apply("scene 1")


async def test_a_ping_needs_no_session(server: Server) -> None:
    client = await server.connect()
    await client.say("session.ping", event_id="e1")
    assert (await client.hear("session.pong"))["event_id"] == "e1"


async def test_bad_input_before_the_session_is_answered_too(server: Server) -> None:
    client = await server.connect()
    await client.socket.send("hello")
    assert (await client.hear("error"))["error"]["code"] == "invalid_json"
    await client.start()


async def test_a_frame_above_the_limit_closes_the_socket_but_not_the_session(server: Server) -> None:
    client = await server.connect()
    created = await client.start()
    with pytest.raises(ConnectionClosed) as caught:
        await client.socket.send("a" * (20 * MAX_MESSAGE_BYTES))
        await client.hear("error")
    assert caught.value.rcvd is not None and caught.value.rcvd.code == 1009
    again = await server.connect()
    await again.say("session.resume", session_id=created["session_id"], resume_token=created["resume_token"])
    await again.hear("session.created")
    await again.apply("scene 1")


async def test_a_flood_of_prompts_is_limited_and_the_session_lives(client: Client) -> None:
    for number in range(60):
        await client.say("prompt.set", text=f"scene {number}", event_id=f"e{number}")
    error = (await client.hear("error"))["error"]
    assert (error["code"], error["retryable"]) == ("rate_limited", True)
    assert error["retry_after_ms"] > 0
    assert error["event_id"] == "e40"
    await client.hear("prompt.applied")


# --- coming back --------------------------------------------------------------------------------------------------


async def test_a_session_resumed_after_a_cut_misses_no_event(server: Server) -> None:
    first = await server.connect()
    created = await first.start()
    await first.say("prompt.set", text="scene 8", prompt_id="eight")
    await first.hear("prompt.accepted")
    first.socket.transport.abort()
    second = await server.connect()
    last_seq = first.heard[-1]["seq"]
    await second.say(
        "session.resume",
        session_id=created["session_id"],
        resume_token=created["resume_token"],
        last_seq=last_seq,
        event_id="r1",
    )
    resumed = await second.hear("session.created")
    assert (resumed["session_id"], resumed["event_id"]) == (created["session_id"], "r1")
    if not second.of("prompt.applied"):
        await second.hear("prompt.applied")
    assert [message["seq"] for message in second.heard] == list(range(last_seq + 1, last_seq + 1 + len(second.heard)))


async def test_a_resume_drops_the_old_connection(server: Server) -> None:
    first = await server.connect()
    created = await first.start()
    second = await server.connect()
    await second.say("session.resume", session_id=created["session_id"], resume_token=created["resume_token"])
    await second.hear("session.created")
    with pytest.raises(ConnectionClosed):
        await first.hear("session.closed")
    await second.apply("scene 1")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"session_id": "s0"}, "unknown_session"),
        ({"resume_token": "guess"}, "wrong_token"),
        ({"last_seq": 10_000}, "invalid_value"),
    ],
)
async def test_a_wrong_resume_is_refused_and_a_new_session_may_start(server: Server, fields: dict, code: str) -> None:
    created = await (await server.connect()).start()
    client = await server.connect()
    right = {"session_id": created["session_id"], "resume_token": created["resume_token"]}
    await client.say("session.resume", **right | fields)
    assert (await client.hear("error"))["error"]["code"] == code
    assert (await client.start())["type"] == "session.created"


async def test_a_closed_session_says_so_and_closes_the_socket(client: Client, server: Server) -> None:
    await client.say("session.close", event_id="e1")
    closed = await client.hear("session.closed")
    assert (closed["reason"], closed["event_id"]) == ("client", "e1")
    with pytest.raises(ConnectionClosed) as caught:
        await client.hear("nothing")
    assert caught.value.rcvd is not None and caught.value.rcvd.code == 1000
    assert server.registry._sessions == {}


async def test_a_full_server_refuses_and_a_vanished_controller_makes_room(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A vanished controller keeps its place for this long; `test_registry.py` has the rule, by the clock.
    monkeypatch.setattr("server.session.registry.KEEP_DETACHED_S", 0.0)
    server = await start_server(max_sessions=1, max_queued=0)
    first = await server.connect()
    await first.start()
    second = await server.connect()
    refused = (await second.start())["error"]
    assert (refused["code"], refused["retryable"], refused["retry_after_ms"]) == ("server_full", True, 5000)
    first.socket.transport.abort()
    await first.socket.wait_closed()
    while (await second.start())["type"] == "error":  # until the server has read the end of the connection
        pass
    await second.apply("scene 1")


async def test_a_waiting_controller_is_told_its_position_and_gets_its_stage(start_server: StartServer) -> None:
    server = await start_server(max_sessions=1)
    clients = [await server.connect() for _ in range(4)]
    assert (await clients[0].start())["type"] == "session.created"
    for position, client in enumerate(clients[1:], start=1):
        await client.say("session.start", event_id="start")
        queued = await client.hear("session.queued")
        assert (queued["position"], queued["event_id"], queued["session_id"]) == (position, "start", None)
    _, second, third, fourth = clients
    await second.say("prompt.set", text="sea")
    assert "session.created" in (await second.hear("error"))["error"]["message"]
    await second.say("session.start")
    assert (await second.hear("error"))["error"]["code"] == "session_exists"
    await third.socket.close()  # leaves the queue
    assert (await fourth.hear("session.queued"))["position"] == 2
    await clients[0].say("session.close")
    assert (await second.hear("session.created"))["event_id"] == "start"
    await second.apply("scene 1")
    assert (await fourth.hear("session.queued"))["position"] == 1
    await second.say("session.close")
    await fourth.hear("session.created")


async def test_a_cached_clip_is_on_air_at_once(start_server: StartServer) -> None:
    engine = CachingEngine(SyntheticEngine(SCRIPT), CacheSettings())
    server = await start_server(engine=engine)
    for expected in (False, True):
        client = await server.connect()
        await client.start()
        await client.apply("scene 5")
        assert client.of("prompt.started")[0]["is_reused"] is expected
        assert bool(client.of("prompt.preview")) is not expected
    async with (await server.http()).get("/metrics") as response:
        assert "sceneshift_cache_hits_total 1.0" in await response.text()


async def test_a_controller_that_answers_no_ping_is_noticed(start_server: StartServer) -> None:
    """The peer answers no ping, like a machine without power; the socket stays open on its side."""
    server = await start_server(heartbeat_s=0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b"GET /v1/realtime HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    start = b'{"type":"session.start"}'
    writer.write(bytes([0x81, 0x80 | len(start), 0, 0, 0, 0]) + start)  # masked with zeros
    await reader.read()  # until the server gives the connection up
    writer.close()
    (session,) = server.registry._sessions.values()
    assert session.state is SessionState.DETACHED


def test_a_vanished_controller_is_noticed_within_ten_seconds() -> None:
    assert HEARTBEAT_S * 1.5 < 10  # aiohttp waits half a heartbeat for the pong


# --- who may connect ----------------------------------------------------------------------------------------------


async def test_pages_of_other_sites_are_refused_and_told_why(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Over the socket: a browser tells its page a close code and what came before it, but no HTTP status."""
    for origin in ("https://evil.example", "null"):
        client = await server.connect(origin=origin)
        error = (await client.hear("error"))["error"]
        assert error["code"] == "forbidden_origin" and "allowed_origins" in error["message"]
        await client.socket.wait_closed()
        assert (client.socket.close_code, client.socket.close_reason) == (1008, "forbidden_origin")
    assert not server.registry._sessions
    lines = [record.getMessage() for record in caplog.records if "was refused" in record.getMessage()]
    assert len(lines) == 1 and "'https://evil.example' was refused; --allowed-origins lets it in" in lines[0]


async def test_a_page_of_another_site_gets_403_for_everything_else(server: Server) -> None:
    foreign = {"Origin": "https://evil.example"}
    async with (await server.http()).get("/v1/sessions/s1/snapshot.jpg", headers=foreign) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (403, "forbidden_origin")


async def test_a_host_name_that_is_not_ours_is_refused(server: Server) -> None:
    """DNS rebinding: a page's own name, pointed at this machine."""
    for path in ("/", "/v1/realtime", "/livez"):
        async with (await server.http()).get(path, headers={"Host": f"evil.example:{server.port}"}) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (403, "forbidden_host")


async def test_our_own_page_and_an_allowed_one_may_connect(start_server: StartServer) -> None:
    server = await start_server(token=TOKEN, allowed_origins=("https://stage.example",))
    for origin in (server.url, "https://stage.example"):
        client = await server.connect(f"?token={TOKEN}", origin=origin)
        assert (await client.start())["type"] == "session.created"


async def test_without_the_token_a_socket_is_closed_with_a_reason(start_server: StartServer) -> None:
    server = await start_server(token=TOKEN)
    for query in ("", "?token=wrong"):
        client = await server.connect(query)
        assert (await client.hear("error"))["error"]["code"] == "unauthorized"
        with pytest.raises(ConnectionClosed) as caught:
            await client.hear("session.created")
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1008


async def test_with_the_token_a_socket_works(start_server: StartServer) -> None:
    server = await start_server(token=TOKEN)
    by_query = await server.connect(f"?token={TOKEN}")
    by_header = await server.connect(additional_headers={"Authorization": f"Bearer {TOKEN}"})
    for client in (by_query, by_header):
        assert (await client.start())["type"] == "session.created"


# --- over HTTP ----------------------------------------------------------------------------------------------------


async def test_ready_only_after_a_warm_generation(start_server: StartServer) -> None:
    never = Script(startup_s=3600)
    http = await (await start_server(never)).http()
    async with http.get("/readyz") as response:
        assert response.status == 503
        assert (await response.json())["engine"] == "starting"
    async with http.get("/livez") as response:
        assert response.status == 200


async def test_readyz_names_the_model(server: Server, client: Client) -> None:
    await client.apply("scene 1")
    async with (await server.http()).get("/readyz") as response:
        body = await response.json()
        assert (response.status, body["ready"], body["model"]) == (200, True, "synthetic")
        assert body["clip_s"] == 2.0  # without the last frame, which repeats the first


async def test_readyz_reports_how_the_model_runs_only_with_the_token(start_server: StartServer) -> None:
    engine = SyntheticEngine(SCRIPT)
    engine.report = lambda: EngineReport(dtype="bf16", decoder="tiny", compiled=("2x3",))  # type: ignore[method-assign]
    engine.costs = lambda: (CostEntry("step fast", 0.1, 0.05, 7),)  # type: ignore[method-assign]
    server = await start_server(engine=engine, token=TOKEN)
    http = await server.http()
    async with http.get(f"/readyz?token={TOKEN}") as response:
        body = await response.json()
    assert (body["report"]["dtype"], body["report"]["compiled"]) == ("bf16", ["2x3"])
    assert body["costs"] == [{"what": "step fast", "seconds": 0.1, "error": 0.05, "num_measured": 7}]
    async with http.get("/readyz") as response:
        assert "report" not in await response.json()
    async with http.get(f"/metrics?token={TOKEN}") as response:
        page = await response.text()
    assert 'sceneshift_engine_cost_seconds{what="step fast"} 0.1' in page
    assert 'sceneshift_engine_cost_error_ratio{what="step fast"} 0.05' in page


async def test_metrics_count_prompts_and_frames(server: Server, client: Client) -> None:
    await client.apply("scene 1")
    await client.hear("stats.updated")
    async with (await server.http()).get("/metrics") as response:
        page = await response.text()
    for line in (
        'sceneshift_prompts_total{end="applied"} 1.0',
        "sceneshift_prompt_to_picture_seconds_count 1.0",
        "sceneshift_prompt_to_preview_seconds_count 1.0",
        "sceneshift_sessions 1.0",
        "sceneshift_engine_steps_total 4.0",
    ):
        assert line in page


async def test_the_page_has_strict_headers(server: Server) -> None:
    http = await server.http()
    for path in ("/", "/client/sdk/messages.js"):
        async with http.get(path) as response:
            assert response.status == 200
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'self'" in response.headers["Content-Security-Policy"]
            assert response.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("path", ["/client/../server/app.py", "/client/%2e%2e/server/app.py", "/client//etc/passwd"])
async def test_no_path_leads_out_of_the_client_folder(server: Server, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.split(b" ")[1] in (b"403", b"404")
    assert b"import" not in answer and b"root:" not in answer


@pytest.mark.parametrize(
    ("path", "content_type", "body", "status", "code"),
    [
        ("/whep/nobody", "application/sdp", b"v=0", 404, "unknown_session"),
        ("/whep/{}", "application/json", b"{}", 415, "unsupported_media_type"),
        ("/whep/{}", "application/sdp", b"hello", 400, "invalid_sdp"),
        ("/whep/{}", "application/sdp", b"\xff\xfe", 400, "invalid_sdp"),
        ("/whep/{}", "application/sdp", OFFER_WITHOUT_VIDEO.encode(), 400, "no_video"),
        ("/whep/{}", "application/sdp", b"v" * 2**20, 413, "message_too_large"),
    ],
)
async def test_bad_whep_offers(
    server: Server, client: Client, path: str, content_type: str, body: bytes, status: int, code: str
) -> None:
    url = path.format(client.heard[0]["session_id"])
    async with (await server.http()).post(url, data=body, headers={"Content-Type": content_type}) as response:
        assert response.status == status
        assert (await response.json())["error"]["code"] == code


async def test_an_internal_error_is_reported_and_ends_no_session(server: Server, client: Client) -> None:
    (session,) = server.registry._sessions.values()
    session.program.add_viewer = session.program.stage.blank = lambda *_: 1 / 0
    async with (await server.http()).post(
        f"/whep/{session.session_id}", data="v=0", headers={"Content-Type": "application/sdp"}
    ) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (500, "internal_error")
    await client.say("program.blank", event_id="e1")
    error = (await client.hear("error"))["error"]
    assert (error["code"], error["event_id"]) == ("internal_error", "e1")
    await client.apply("scene 1")


async def test_an_allowed_page_of_another_origin_may_watch_by_whep(start_server: StartServer) -> None:
    server = await start_server(token=TOKEN, allowed_origins=("https://stage.example",))
    http = await server.http()
    async with http.options("/whep/s1", headers={"Origin": "https://stage.example"}) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "https://stage.example"
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
    async with http.options("/whep/s1", headers={"Origin": "https://evil.example"}) as response:
        assert response.status == 403
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_with_a_token_the_page_is_open_and_the_rest_is_not(start_server: StartServer) -> None:
    http = await (await start_server(token=TOKEN)).http()
    for path, status in [("/", 200), ("/livez", 200), ("/metrics", 401), (f"/metrics?token={TOKEN}", 200)]:
        async with http.get(path) as response:
            assert response.status == status, path
    async with http.post("/whep/s1", data="v=0", headers={"Content-Type": "application/sdp"}) as response:
        assert response.status == 401


# --- what is left behind ------------------------------------------------------------------------------------------


async def test_a_server_that_ends_leaves_no_task_thread_or_file() -> None:
    async def live_and_end(server: Server) -> None:
        client, viewer = await server.connect(), Viewer()
        await client.start()
        await client.say("webrtc.offer", sdp=await viewer.offer())
        await viewer.answer((await client.hear("webrtc.answer"))["sdp"])
        await client.apply("scene 6")
        await viewer.until_number(6)
        await client.say("session.close")
        await client.hear("session.closed")
        await viewer.close()

    async def serve(num_sessions: int) -> None:
        app = server_app.build(Settings(), SyntheticEngine(SCRIPT))
        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(server_app.running(app, server_app.listen("127.0.0.1", 0)))
            for _ in range(num_sessions):
                await live_and_end(Server(port, app[server_app.REGISTRY], stack))

    def held() -> tuple[set[str], int, int]:
        tasks = {task.get_name() for task in asyncio.all_tasks()}
        return tasks, threading.active_count(), len(list(Path("/dev/fd").iterdir()))

    await serve(num_sessions=1)  # what stays for ever is made now
    before = held()
    await serve(num_sessions=3)
    assert held() == before


# --- the end ------------------------------------------------------------------------------------------------------


async def test_a_shutdown_says_goodbye_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with AsyncExitStack() as stack:
        app = server_app.build(Settings(), SyntheticEngine(SCRIPT))
        async with server_app.running(app, server_app.listen("127.0.0.1", 0)) as port:
            server = Server(port, app[server_app.REGISTRY], stack)
            client = await server.connect()
            await client.start()
            idle = await server.connect()
            await client.say("prompt.set", text="scene 1")
            await client.hear("prompt.accepted")
        closed = await client.hear("session.closed")
        assert closed["reason"] == "server_shutdown"
        assert [message["code"] for message in client.of("session.warning")] == ["draining"]
        with pytest.raises(ConnectionClosed) as caught:
            await idle.hear("nothing")
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1001
    await asyncio.sleep(0)  # the clients' own last tasks
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_only_the_studios_worker_may_compile_webassembly(server: Server) -> None:
    http = await server.http()
    policies = {}
    for path in ("/", "/studio", "/client/studio/output.html", "/client/studio/segmenter_worker.js"):
        async with http.get(path) as response:
            assert response.status == 200
            policies[path] = response.headers["Content-Security-Policy"]
    assert [path for path, policy in policies.items() if "unsafe" in policy] == ["/client/studio/segmenter_worker.js"]
    assert "script-src 'self' 'wasm-unsafe-eval';" in policies["/client/studio/segmenter_worker.js"] + ";"
