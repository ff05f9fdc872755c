"""`WS /v1/sessions/{session_id}/watch`: the program as fragmented MP4, for viewers that WebRTC cannot reach.

It sends `stream.started` as text, then binary frames: the init segment and one fragment a frame, beginning with the
last keyframe. `Viewers.watch` gives it packets that are encoded already. Runs on the event loop, in two tasks for each
viewer: one sends, one listens for the end.

A slow client: its queue in the fan-out and the buffers of asyncio and the kernel (both bounded here) hold about a
second of program. When they are full, its queue is emptied, and it goes on with the next keyframe. The fragment after
a gap begins where the last one ended, because a player stops at a hole in its buffer.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import aclosing
from weakref import WeakKeyDictionary

from aiohttp import WSCloseCode, web

from server.clock import Clock
from server.doors import sockets
from server.doors.access.auth import PROTOCOL
from server.doors.access.client_secrets import Identity
from server.doors.access.gate import Gate
from server.media.mp4.fmp4 import Fragments, VideoTrack, init_segment
from server.media.video.encoder import EncodedFrame
from server.media.video.fanout import Subscription, SubscriptionClosed
from server.metrics import Metrics
from server.protocol.codes import ErrorDetail, error_detail
from server.protocol.decoding import encode
from server.protocol.errors import Refused
from server.protocol.messages import StreamStarted
from server.session.limits import ConnectionLimits, Intake
from server.session.registry import Registry
from server.session.session import Session

_log = logging.getLogger(__name__)

# A ping is sent after this much silence (viewers send nothing); half of it is the time to answer, since the ping waits
# behind the video.
HEARTBEAT_S = 10.0
# Viewers have nothing to send but pings and pongs.
MAX_FRAME_BYTES = 1024
# A quarter of a second at 2 Mbit/s, in asyncio's buffer and again in the kernel's. Data there is late already.
MAX_UNSENT_BYTES = 64 * 1024


class WatchEndpoint:
    """Serves the viewers of all sessions. They end with their session; `close` ends those that are left."""

    def __init__(
        self, registry: Registry, gate: Gate, metrics: Metrics, *, clock: Clock, heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        self._registry = registry
        self._gate = gate
        self._metrics = metrics
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._fragments: WeakKeyDictionary[Session, Fragments] = WeakKeyDictionary()
        self._sockets: set[web.WebSocketResponse] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One viewer, from upgrade to close. Host and `Origin` were checked by the middleware."""
        response = web.WebSocketResponse(
            timeout=sockets.CLOSE_TIMEOUT_S,
            heartbeat=self._heartbeat_s,
            autoping=False,
            autoclose=False,
            max_msg_size=MAX_FRAME_BYTES,
            compress=False,
            protocols=(PROTOCOL,),
        )
        await response.prepare(request)
        # Refused only after the upgrade: a browser tells its page the close code, but no HTTP status.
        try:
            session, subscription, identity = self._admit(request)
        except Refused as refusal:
            await self._refuse(response, request, refusal.detail)
            return response
        _bound_buffers(request)
        self._sockets.add(response)
        let_go = self._gate.keyring.hold(identity, lambda: sockets.abort(request))
        try:
            if not await self._serve(response, session, subscription):
                reason = "too many frames on this connection: a viewer has nothing to send"
                await self._refuse(response, request, error_detail("rate_limited", reason, retryable=True))
        finally:
            let_go()
            self._sockets.discard(response)
            session.viewers.leave(subscription)
        return response

    async def close(self) -> None:
        goodbyes = (one.close(code=WSCloseCode.GOING_AWAY) for one in list(self._sockets))
        await asyncio.gather(*goodbyes, return_exceptions=True)

    def _admit(self, request: web.Request) -> tuple[Session, Subscription, Identity]:
        """Raises `Refused`."""
        session_id = request.match_info["session_id"]
        identity = self._gate.admit(request, "view", session_id, connects=True)
        session = self._registry.find(session_id, identity.sees)
        return session, session.viewers.watch(self._gate.payer(request, identity)), identity

    async def _refuse(self, response: web.WebSocketResponse, request: web.Request, detail: ErrorDetail) -> None:
        self._metrics.refused(detail.code)
        self._gate.note_refusal(request, detail.code)
        is_full = detail.code == "too_many_viewers"
        code = WSCloseCode.TRY_AGAIN_LATER if is_full else WSCloseCode.POLICY_VIOLATION
        await sockets.refuse(response, request, detail, code=code)

    async def _serve(self, response: web.WebSocketResponse, session: Session, subscription: Subscription) -> bool:
        """Returns at the end of the connection or the session; False if the viewer must be refused: it floods us."""
        listening = asyncio.create_task(self._listen(response), name=f"watch-listener-{session.session_id}")
        sending = asyncio.create_task(self._send(response, session, subscription), name=f"watch-{session.session_id}")
        try:
            await asyncio.wait((listening, sending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            has_ended = sending.done()
            listening.cancel()
            sending.cancel()
            await asyncio.wait((listening, sending))
        if has_ended:
            await response.close(code=sending.result(), message=b"the session has ended")
            return True
        return listening.result()

    async def _listen(self, response: web.WebSocketResponse) -> bool:
        """Returns when the connection ends for any reason (True), or the viewer floods us (False)."""
        intake, limits = Intake(self._clock), ConnectionLimits(self._clock)
        async with aclosing(sockets.frames(response)) as frames:
            async for _ in frames:
                wait_s = intake.take(limits.messages)
                if intake.is_flooded:
                    return False
                await intake.rest(wait_s)
        return True

    async def _send(self, response: web.WebSocketResponse, session: Session, subscription: Subscription) -> WSCloseCode:
        """Sends until the session or the connection ends. Returns the code to close with."""
        if session not in self._fragments:
            wanted = session.program_format
            self._fragments[session] = Fragments(wanted.width, wanted.height, wanted.frame_rate)
        viewer = _Viewer(response, self._fragments[session])
        try:
            while True:
                await viewer.send(await subscription.next())
        except SubscriptionClosed:
            return WSCloseCode.GOING_AWAY if self._registry.is_draining else WSCloseCode.OK
        except (ConnectionError, RuntimeError):
            return WSCloseCode.OK  # the peer is gone; aiohttp raises RuntimeError when a close has begun
        except Exception:
            # Boundary of this task: without it the connection is useless.
            _log.exception("%s ! internal error while sending to a viewer over WebSocket", session.session_id)
            return WSCloseCode.INTERNAL_ERROR


class _Viewer:
    """One viewer's place in the stream: the track that it was sent, and where its last fragment ended."""

    def __init__(self, response: web.WebSocketResponse, fragments: Fragments) -> None:
        self._response = response
        self._fragments = fragments
        self._track: VideoTrack | None = None
        self._end: int | None = None  # number of the frame after the last one

    async def send(self, frame: EncodedFrame) -> None:
        """Sends a frame's part of the stream; waits while the connection is behind."""
        if frame.is_keyframe:
            await self._begin(frame)
        if self._track is None:
            return  # cannot be decoded; the fan-out begins with a keyframe
        begin = frame.frame_index if self._end is None else min(self._end, frame.frame_index)
        self._end = frame.frame_index + 1
        await self._response.send_bytes(self._fragments.fragment(frame, self._track, begin))

    async def _begin(self, keyframe: EncodedFrame) -> None:
        """Sends the track's init segment if the track is new: at the start, or after a change of encoder."""
        track = self._fragments.track(keyframe)
        if track is None or track == self._track:
            return
        if self._track is None:
            started = StreamStarted(
                mime=track.mime, width=track.width, height=track.height, frame_rate=track.frame_rate
            )
            await self._response.send_str(encode(started))
        self._track = track
        await self._response.send_bytes(init_segment(track))


def _bound_buffers(request: web.Request) -> None:
    """Keeps unsent data in our queue, where it can be dropped. The kernel would take megabytes, seconds of program."""
    transport = request.transport
    if transport is None:
        return
    transport.set_write_buffer_limits(high=MAX_UNSENT_BYTES)
    connection = transport.get_extra_info("socket")
    if connection is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)
