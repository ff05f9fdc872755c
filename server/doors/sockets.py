"""What the doors' WebSockets share: frames that count, control frames included, and a refusal that does not read on.

Sockets must be made with `autoping=False` and `autoclose=False`: with the first, aiohttp answers thousands of pings in
a row without a turn for other tasks; with the second, it sends a close frame of its own after ours. On the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncGenerator

from aiohttp import WSCloseCode, WSMsgType, web

from server.protocol.codes import ErrorDetail
from server.protocol.decoding import encode
from server.protocol.messages import Error

# How long the last messages may take to be sent, and the peer to answer them.
CLOSE_TIMEOUT_S = 1.0
# What an honest peer may have sent before it reads that it is refused: a browser's `session.start` and its close frame.
MAX_FRAMES_AFTER_REFUSAL = 16
_CODE = struct.Struct("!H")  # RFC 6455 section 5.5.1
_ENDS = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)


async def frames(socket: web.WebSocketResponse) -> AsyncGenerator[str | bytes | None, None]:
    """What the peer sends, until it is gone. None: a control ping or pong, which costs us as much as a message."""
    async for frame in socket:
        if frame.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            yield frame.data
        elif frame.type in (WSMsgType.PING, WSMsgType.PONG):
            yield None
            if frame.type is WSMsgType.PING:
                with contextlib.suppress(ConnectionError):
                    await socket.pong(frame.data)
    await socket.close(drain=False)


async def refuse(
    socket: web.WebSocketResponse,
    request: web.Request,
    detail: ErrorDetail,
    *,
    code: WSCloseCode = WSCloseCode.POLICY_VIOLATION,
) -> None:
    """Sends a last error and the close frame, then ends the connection. No other task may be reading.

    Waits for the peer's close frame, because a reset would turn our code into 1006 at the peer. aiohttp's own `close`
    reads for it as much as the peer can send within `CLOSE_TIMEOUT_S`, without a turn for other tasks. This reads a few
    frames, and then only gives the peer the time to read ours.
    """
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await socket.send_str(encode(Error(error=detail)))
            await socket.send_frame(_CODE.pack(code) + detail.code.encode(), WSMsgType.CLOSE)
            for _ in range(MAX_FRAMES_AFTER_REFUSAL):
                if (await socket.receive()).type in _ENDS:
                    break
            else:
                if request.transport is not None:
                    request.transport.pause_reading()
                await asyncio.sleep(CLOSE_TIMEOUT_S)
    except (TimeoutError, ConnectionError, RuntimeError):
        pass  # it does not read or not answer, or is gone (aiohttp: `RuntimeError`)
    abort(request)


def abort(request: web.Request) -> None:
    """Closes at once, without a goodbye."""
    if request.transport is not None:
        request.transport.abort()
