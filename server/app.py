"""Assembles the application and runs it: the engine, the registry, the routes; a clean end on SIGTERM and SIGINT.

`__main__.py` calls `serve`; tests call `build` and run it themselves. On the event loop of the server process.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TextIO

from aiohttp import web
from aiohttp.log import server_logger

from engine.api import Engine, EngineReady, EngineStopped, ModelError
from server.accounts.accounts import Accounts
from server.clips.folder import ClipFolder
from server.clips.queue import ClipQueue
from server.clips.shelf import ClipShelf
from server.clock import Clock, MonotonicClock
from server.config import Settings
from server.doors import watch
from server.doors.access.auth import Access
from server.doors.access.client_secrets import Identity
from server.doors.access.gate import Gate
from server.doors.access.keyring import Keyring
from server.doors.access.peers import Peers, Proxies
from server.doors.bad_requests import BadRequestFilter
from server.doors.calls import CallsApi
from server.doors.connections import ConnectionBounds, Connections, bounded
from server.doors.downloads import Downloads
from server.doors.http_api import HttpApi
from server.doors.operators.keys_api import KeysApi
from server.doors.operators.operator_api import OperatorApi
from server.doors.secrets_api import SecretsApi
from server.doors.videos.api import VideosApi
from server.doors.videos.show import ShowApi
from server.doors.webhooks.api import WebhooksApi
from server.doors.websocket import HEARTBEAT_S, RealtimeEndpoint
from server.doors.whep import WhepApi
from server.essential import EssentialTasks
from server.media.mp4.recording import RecordingLimits
from server.media.program import Program
from server.media.program_format import MediaSettings
from server.media.sound.music import Library
from server.media.video import hardware
from server.media.webrtc.ice import Ice, IceSettings
from server.metrics import Metrics
from server.protocol.decoding import MAX_MESSAGE_BYTES
from server.protocol.limits import Limits
from server.run_file import RunFileError, Running, kept
from server.session.neighbours import ProgramFactory
from server.session.recordings import Recordings
from server.session.registry import Registry
from server.session.session import Neighbours
from server.store.audit import Audit
from server.store.store import Store
from server.webhooks.courier import Courier
from server.webhooks.sender import Sender

_log = logging.getLogger(__name__)

# The time for handlers that still run when everything that they serve has ended.
HANDLER_TIMEOUT_S = 0.5

REGISTRY = web.AppKey("registry", Registry)
CONNECTIONS = web.AppKey("connections", Connections)
ACCESS = web.AppKey("access", Access)
ACCOUNTS = web.AppKey("accounts", Accounts)


class PortInUse(Exception):
    """Another program listens on this port."""


class ServerDied(Exception):
    """An essential task died, so this server is useless and must be started again."""


def build(
    settings: Settings,
    engine: Engine,
    *,
    clock: Clock | None = None,
    store: Store | None = None,
    make_program: ProgramFactory | None = None,
    media: MediaSettings | None = None,
    heartbeat_s: float = HEARTBEAT_S,
    watch_heartbeat_s: float = watch.HEARTBEAT_S,
    bounds: ConnectionBounds | None = None,
    access_time: Callable[[], float] = time.time,
    on_engine_ready: Callable[[EngineReady], None] = lambda event: None,
    on_engine_unusable: Callable[[EngineStopped], None] = lambda event: None,
    on_task_died: Callable[[str], None] = lambda name: None,
) -> web.Application:
    """The application; its start-up opens `engine`, its shutdown ends the sessions and closes it.

    `store`: None for one in memory; the application closes it. `bounds`: instead of those in `settings`.
    """
    clock = clock or MonotonicClock()
    metrics = Metrics()
    store = store or Store(clock=clock)
    keyring = Keyring(store, clock, access_time, token=settings.token)
    audit = Audit(store, access_time)
    ice = Ice(IceSettings.of(settings), clock=clock, on_dropped=metrics.packet_dropped)
    music = Library(Path(settings.music_folder) if settings.music_folder else None)
    recordings = _recordings(settings)
    make_program = make_program or partial(Program, media=media, ice=ice, music=music)
    neighbours = _neighbours(settings, engine, metrics, clock, make_program, recordings, ice, music, store)
    registry = Registry(
        neighbours,
        max_sessions=settings.max_sessions,
        max_queued=settings.max_queued,
        resume_grace_s=settings.resume_grace_s,
        on_engine_ready=on_engine_ready,
        on_engine_unusable=on_engine_unusable,
        on_task_died=on_task_died,
    )
    proxies = Proxies(settings.trusted_proxies)
    accounts = _accounts(settings, store, keyring, metrics, clock, access_time)
    gate = Gate(Access(settings, keyring, access_time), _peers(settings, clock, proxies), accounts, audit)
    api, whep = HttpApi(registry, gate, metrics, clock), WhepApi(registry, gate, ice)
    calls = CallsApi(registry, gate, ice, metrics=metrics, clock=clock)
    realtime = RealtimeEndpoint(registry, gate, metrics=metrics, clock=clock, heartbeat_s=heartbeat_s)
    watching = watch.WatchEndpoint(registry, gate, metrics, clock=clock, heartbeat_s=watch_heartbeat_s)
    clips = _clips(settings, neighbours, store, gate, access_time)
    videos = _videos(settings, gate, store, clips, engine, access_time)
    courier, webhooks = _webhooks(settings, gate, store, neighbours, videos, access_time)
    tables = _tables(registry, gate, store, recordings, access_time)

    app = web.Application(middlewares=[bounded, api.guard()], client_max_size=MAX_MESSAGE_BYTES)
    app[REGISTRY], app[ACCESS], app[ACCOUNTS] = registry, gate.access, accounts
    app[CONNECTIONS] = Connections(bounds or _bounds(settings), clock, proxies)
    doors = (api, whep, calls, Downloads(registry, gate, recordings), videos, webhooks, *tables)
    _add_routes(app.router, realtime, watching, doors)
    app.on_response_prepare.append(api.set_headers)
    app.cleanup_ctx.append(partial(_stored, store, keyring, accounts, audit, clips, courier, on_task_died))
    _open_and_close(app, registry, realtime, watching, calls, music, clips)
    return app


def _clips(
    settings: Settings, neighbours: Neighbours, store: Store, gate: Gate, wall_time: Callable[[], float]
) -> ClipQueue | None:
    folder = _clip_folder(settings)
    if folder is None:
        return None
    return ClipQueue(
        store,
        folder,
        neighbours.engine,
        neighbours.generations,
        clock=neighbours.clock,
        wall_time=wall_time,
        lives_s=settings.clips_live_s,
        share=settings.clips_share,
        payer_of=lambda tenant: gate.accounts.payer(tenant, gate.keyring.key(tenant)),
    )


def _clip_folder(settings: Settings) -> ClipFolder | None:
    """None: this server makes no clips on demand."""
    if settings.clips_folder is None or settings.max_clips_size == 0:
        return None
    return ClipFolder(Path(settings.clips_folder))


def _videos(
    settings: Settings,
    gate: Gate,
    store: Store,
    clips: ClipQueue | None,
    engine: Engine,
    wall_time: Callable[[], float],
) -> VideosApi:
    return VideosApi(
        gate,
        store,
        clips,
        engine,
        wall_time=wall_time,
        most_queued=settings.max_clips_queued,
        most_bytes=settings.max_clips_size,
    )


def _webhooks(
    settings: Settings,
    gate: Gate,
    store: Store,
    neighbours: Neighbours,
    videos: VideosApi,
    wall_time: Callable[[], float],
) -> tuple[Courier, WebhooksApi]:
    sender = Sender(is_local=not settings.is_reachable)
    courier = Courier(
        store,
        sender,
        clock=neighbours.clock,
        wall_time=wall_time,
        link=videos.link,
        is_good=lambda tenant: gate.keyring.is_good(Identity(tenant)),
        on_attempt=neighbours.metrics.webhook_attempted,
    )
    return courier, WebhooksApi(gate, store, courier, sender, wall_time)


def _tables(
    registry: Registry, gate: Gate, store: Store, recordings: Recordings, wall_time: Callable[[], float]
) -> tuple[SecretsApi, KeysApi, OperatorApi, ShowApi]:
    others = OperatorApi(registry, gate, store, recordings), ShowApi(registry, gate)
    return SecretsApi(gate, wall_time), KeysApi(gate, store, wall_time), *others


def _recordings(settings: Settings) -> Recordings:
    folder = Path(settings.recordings_folder) if settings.recordings_folder else None
    return Recordings(folder, RecordingLimits(settings.max_recording_size, settings.max_recordings_size))


def _peers(settings: Settings, clock: Clock, proxies: Proxies) -> Peers:
    return Peers(clock, proxies, tells_apart=settings.max_connections_per_peer > 0)


def _accounts(
    settings: Settings,
    store: Store,
    keyring: Keyring,
    metrics: Metrics,
    clock: Clock,
    access_time: Callable[[], float],
) -> Accounts:
    # Messages: ten times a connection's, for all bots and pages of an address.
    connects, engine_s = settings.max_connects_per_peer, settings.max_engine_s_per_peer
    of_address = Limits(engine_s=engine_s or None, connects_per_min=connects or None, messages_per_s=500)
    accounts = Accounts(store, clock, access_time, of_address=of_address)
    metrics.bind_spent(lambda: {keyring.name_of(tenant): s for tenant, s in accounts.settled_s().items()})
    return accounts


class _Routes(Protocol):
    def add_routes(self, router: web.UrlDispatcher) -> None: ...


def _add_routes(
    router: web.UrlDispatcher, realtime: RealtimeEndpoint, watching: watch.WatchEndpoint, others: Sequence[_Routes]
) -> None:
    router.add_get("/v1/realtime", realtime.handle)
    router.add_get("/v1/sessions/{session_id}/watch", watching.handle)
    for routes in others:
        routes.add_routes(router)


def _bounds(settings: Settings) -> ConnectionBounds:
    return ConnectionBounds(settings.max_connections, settings.max_connections_per_peer)


async def _stored(
    store: Store,
    keyring: Keyring,
    accounts: Accounts,
    audit: Audit,
    clips: ClipQueue | None,
    courier: Courier,
    on_task_died: Callable[[str], None],
    app: web.Application,
) -> AsyncIterator[None]:
    """Opened before the sessions and closed after them, because their last messages are written down, too."""
    if not store.is_open:
        store.open()
    await keyring.load()
    await accounts.open()
    following = EssentialTasks(on_task_died)
    following.start(keyring.follow(), "keys")
    following.start(accounts.follow(), "accounts")
    if clips is not None:
        following.start(clips.run(), "clips")
    following.start(courier.run(), "webhooks")
    yield
    await following.close()
    await accounts.flush()
    audit.flush()
    await asyncio.to_thread(store.close)


def _open_and_close(
    app: web.Application,
    registry: Registry,
    realtime: RealtimeEndpoint,
    watching: watch.WatchEndpoint,
    calls: CallsApi,
    music: Library,
    clips: ClipQueue | None,
) -> None:
    async def open_registry(app: web.Application) -> None:
        await registry.open()

    async def end_everything(app: web.Application) -> None:
        if clips is not None:
            await clips.close()  # before the engine, so that what is being made is queued again
        # Sessions first, so that their writers can say goodbye on open sockets.
        await registry.close()
        await asyncio.gather(realtime.close(), watching.close())
        await calls.close()
        music.close()

    app.on_startup.append(open_registry)
    app.on_shutdown.append(end_everything)


def _neighbours(
    settings: Settings,
    engine: Engine,
    metrics: Metrics,
    clock: Clock,
    make_program: ProgramFactory,
    recordings: Recordings,
    ice: Ice,
    music: Library,
    store: Store,
) -> Neighbours:
    folder = _clip_folder(settings)
    return Neighbours(
        engine,
        metrics,
        clock,
        make_program=make_program,
        recordings=recordings,
        max_viewers=settings.max_viewers,
        max_program=settings.max_program,
        ice_servers=ice.client_servers,
        music=music.names,
        push_targets={target.name: target for target in settings.whip_targets},
        shelf=ClipShelf(store, folder) if folder is not None else None,
    )


@asynccontextmanager
async def running(app: web.Application, listener: socket.socket) -> AsyncIterator[int]:
    """Serves `app` on a bound socket while the block runs, then closes the socket. Gives the port."""
    # `connections.BoundedHandler` has the options of a connection.
    runner = web.AppRunner(app, shutdown_timeout=HANDLER_TIMEOUT_S)
    port: int = listener.getsockname()[1]
    bad_requests = BadRequestFilter(MonotonicClock())
    server_logger.addFilter(bad_requests)
    try:
        await runner.setup()
        assert runner.server is not None  # since `setup`
        async with app[CONNECTIONS].serve(runner.server, listener):
            yield port
    finally:
        await runner.cleanup()
        server_logger.removeFilter(bad_requests)
        listener.close()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, bound before anything slow starts. Raises `PortInUse`, or `OSError` for a wrong address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # `::` means all addresses, also those of IPv4, as an operator expects.
    is_dual = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((host, port), family=family, backlog=128, dualstack_ipv6=is_dual)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"port {port} on {host} is in use; give another with --port, or stop what runs there"
            ) from None
        raise


@dataclass(frozen=True, slots=True)
class Notice:
    """Where a server says how to reach it: a line or two on `out`, and a file in `run_folder` (`run_file.py`).

    `shows_token`: the server made its token itself, so nobody else can tell it to the operator. A terminal gets it, in
    the fragment of the address, which browsers never send and servers never log. Anything else, such as journald or
    `docker logs`, keeps what it gets, so it is told the file's name.
    """

    out: TextIO
    run_folder: Path
    shows_token: bool = False


async def serve(
    settings: Settings, engine: Engine, listener: socket.socket, notice: Notice, store: Store | None = None
) -> None:
    """Serves until SIGTERM or SIGINT, then ends within seconds.

    Raises `EncoderUnusable` if the named H264 encoder cannot be used, and `ServerDied` when an essential task has died.
    Raises `ModelError` before it serves, or if the engine never started: a server without one is useless, and the
    operator should read why. A server that has had an engine goes on without one. Raises `RunFileError` if nobody could
    learn the token.
    """
    out = notice.out

    def announce_ready(event: EngineReady) -> None:
        model = event.model
        _tell(out, f"ready: {model.name} on {model.device}, warm after {event.startup_s:.1f} s")

    unusable: list[str] = []
    dead: list[str] = []
    stop = asyncio.Event()

    def give_up(event: EngineStopped) -> None:
        unusable.append(event.detail)
        stop.set()

    def end(name: str) -> None:
        dead.append(name)
        stop.set()

    h264_encoder = await asyncio.to_thread(hardware.choose, settings.h264_encoder)
    media = MediaSettings(h264_encoder, uses_stock_sender=settings.sender == "aiortc")
    app = build(
        settings,
        engine,
        store=store,
        media=media,
        on_engine_ready=announce_ready,
        on_engine_unusable=give_up,
        on_task_died=end,
    )
    app[CONNECTIONS].reserve_files()
    with _on_signals(stop.set), _findable(settings, listener, notice) as lines:
        async with running(app, listener):
            for line in lines:
                _tell(out, f"sceneshift: {line}")
            await stop.wait()
            _log.info("- = shutting down")
    if unusable:
        raise ModelError(unusable[0])
    if dead:
        raise ServerDied(f"the task {dead[0]} died; see the log")


@contextmanager
def _findable(settings: Settings, listener: socket.socket, notice: Notice) -> Iterator[list[str]]:
    """Keeps the run file while the block runs. Gives the lines for the operator. Raises `RunFileError`."""
    port = listener.getsockname()[1]
    here = Running(port, address(settings, port), settings.token, os.getpid())
    is_seen = notice.out.isatty()
    path = None
    with ExitStack() as stack:
        try:
            path = stack.enter_context(kept(notice.run_folder, here))
        except RunFileError as error:
            if notice.shows_token and not is_seen:
                raise RunFileError(f"{error}; set a token yourself, as SCENESHIFT_TOKEN") from None
            _log.warning("- ! the SDKs and `sceneshift url` do not find this server: %s", error)
        if notice.shows_token and not is_seen:
            yield [here.url, f"the token is in {path}; `sceneshift url` prints the address with it"]
        else:
            yield [here.link if notice.shows_token else here.url]


def _tell(out: TextIO, text: str) -> None:
    """Prints a line. A closed pipe (`| head -1`) or a full disk must not stop a show."""
    try:
        print(text, file=out, flush=True)
    except (OSError, ValueError) as error:
        _log.warning("- ! standard output cannot be written: %s", error)


def address(settings: Settings, port: int) -> str:
    """The address to open in a browser on this machine, without `settings.token`."""
    host = settings.host
    if host == "0.0.0.0" or (host == "::" and socket.has_dualstack_ipv6()):
        host = "localhost"
    elif host == "::":
        host = "::1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


@contextmanager
def _on_signals(act: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, act)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
