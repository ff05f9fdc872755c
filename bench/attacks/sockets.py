"""Attacks over WebSocket: floods, sockets that read nothing, guesses, prompts. See `attacker.py`."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import struct
from collections import Counter

from bench.attacks.attacker import SHOW, Attacker, Outcome, fill, told, until

_UPGRADE = (
    *("Upgrade: websocket", "Connection: Upgrade"),
    *("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
)
START = {"type": "session.start", "on_preview": "off"}
PING = '{"type":"session.ping"}'
LARGE = 4 * 2**20 - 64  # just below what a socket reads (`websocket.MAX_FRAME_BYTES`)
SIZES = ((160, 128), (832, 480), (1920, 1080))


async def messages(attacker: Attacker) -> Outcome:
    """`session.ping` as fast as a socket takes it; when it is closed, the next socket (H1)."""
    return await attacker.flood(lambda connection: connection.send_str(PING))


async def mixed_messages(attacker: Attacker) -> Outcome:
    """All kinds of messages, good, bad and broken, to a stage of its own."""
    texts = (
        '{"type":"prompt.set","text":"scene 1"}',
        '{"type":"prompt.cancel","prompt_id":"p1"}',
        '{"type":"session.update","music":"none"}',
        '{"type":"program.take","transition":"morph"}',
        '{"type":"program.blank"}',
        '{"type":"webrtc.candidate","candidate":"x","sdp_mid":"0"}',
        '{"type":"webrtc.offer","sdp":"v=0"}',
        '{"type":"session.start"}',
        "{" * 5000,
        "[" * 100_000,
        '{"type":"' + "x" * 10_000 + '"}',
        '{"seed":' + "9" * 4000 + "}",
    )
    return await attacker.flood(lambda connection: connection.send_str(attacker.random.choice(texts)), begin=START)


async def pings(attacker: Attacker) -> Outcome:
    """WebSocket's own pings (H1)."""
    return await attacker.flood(lambda connection: connection.ping())


async def large_frames(attacker: Attacker) -> Outcome:
    """Texts of 4 MiB (the server reads so much, and answers that it is too large)."""
    return await attacker.flood(lambda connection: connection.send_str("x" * LARGE))


async def viewers_that_send(attacker: Attacker) -> Outcome:
    """A viewer's socket, where nobody has anything to send, full of messages."""
    return await attacker.flood(lambda connection: connection.send_str("x" * 100), f"/v1/sessions/{SHOW}/watch")


async def fragments(attacker: Attacker) -> Outcome:
    """A message in pieces of one byte, without an end."""
    return await _raw_flood(attacker, b"\x01\x81\0\0\0\0x", b"\x00\x81\0\0\0\0x" * 10_000)


async def reconnecting(attacker: Attacker) -> Outcome:
    """Two clients, each with one socket after the other, full of pings from the first packet on (H1)."""
    return await _raw_flood(attacker, b"", b"\x89\x80\0\0\0\0" * 10_000)


async def large_frames_unread(attacker: Attacker) -> Outcome:
    """Frames that say to be 4 MiB long, and come slowly: what is kept for one that never ends?"""
    return await _raw_flood(attacker, b"\x81\xff" + struct.pack("!Q", LARGE) + bytes(4), b"x" * 65536, times=64)


async def _raw_flood(attacker: Attacker, first: bytes, then: bytes, *, times: int = 10**6) -> Outcome:
    """Two clients, each with one socket after the other: these bytes, and then those again and again."""
    head = attacker.head("GET /v1/realtime", *_UPGRADE) + b"\r\n"

    async def ask(number: int) -> str:
        reader, writer = await attacker.connect()
        writer.write(head + first)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(attacker.seconds):
                await fill(reader, writer, then, times=times)
        return "ended"

    return Outcome(told(await attacker.repeat(ask, at_once=2)))


# --- sockets that read nothing ------------------------------------------------------------------------------------


async def unreading_viewers(attacker: Attacker) -> Outcome:
    """30 viewers over WebSocket that read nothing."""
    head = attacker.head(f"GET /v1/sessions/{SHOW}/watch", *_UPGRADE) + b"\r\n"
    opened = []
    for _ in range(30):
        reader, writer = await attacker.connect()
        writer.write(head)
        await reader.readuntil(b"\r\n\r\n")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        opened.append(writer)
    await asyncio.sleep(attacker.seconds)
    for writer in opened:
        writer.transport.abort()
    return Outcome(f"{len(opened)} opened")


async def unreading_controller(attacker: Attacker) -> Outcome:
    """Controllers that ask for a stage and answers to 40 messages a second, and read nothing."""
    has_time, num_sockets = attacker.until_end(), 0
    while has_time():
        connection = await attacker.http.ws_connect("/v1/realtime", heartbeat=None)
        transport = connection._response.connection.transport  # type: ignore[union-attr]
        transport.pause_reading()
        num_sockets += 1
        with contextlib.suppress(ConnectionError):
            await connection.send_json(START)
            while has_time() and not transport.is_closing():
                await connection.send_str('{"type":"prompt.set","text":"' + "x" * 1000 + '"}')
                await connection.send_str(PING)
                await asyncio.sleep(0.05)
        transport.abort()
    return Outcome(f"{num_sockets} sockets")


# --- stages -------------------------------------------------------------------------------------------------------


async def stages(attacker: Attacker) -> Outcome:
    """Stages that begin and end, one after the other, on two sockets."""

    async def ask(number: int) -> str:
        width, height = attacker.random.choice(SIZES)
        async with attacker.http.ws_connect("/v1/realtime") as connection:
            await connection.send_json(START | {"width": width, "height": height, "frame_rate": 30})
            answer = await until(connection, "session.created", "session.queued", "error")
            await connection.send_json({"type": "session.close"})
            await until(connection, "session.closed", "error")
            return str(answer["type"])

    return Outcome(told(await attacker.repeat(ask, at_once=2)))


async def left_stages(attacker: Attacker) -> Outcome:
    """Stages whose controllers begin them and leave at once without a word."""

    async def ask(number: int) -> str:
        async with attacker.http.ws_connect("/v1/realtime") as connection:
            await connection.send_json(START)
            answer = await until(connection, "session.created", "session.queued", "error")
            connection._response.connection.transport.abort()  # type: ignore[union-attr]
            return str(answer["type"])

    return Outcome(told(await attacker.repeat(ask, at_once=2)))


async def prompts(attacker: Attacker) -> Outcome:
    """A second controller with a stage of its own, and long prompts in two scripts as fast as they pass (M5)."""
    words = ("日落时的海边", "夜晚的雪山", "the sea ", "a forest at dawn ")
    answers, has_time = Counter[str](), attacker.until_end()
    async with attacker.http.ws_connect("/v1/realtime") as connection:
        await connection.send_json(START)
        await until(connection, "session.created")

        async def read() -> None:
            async for frame in connection:
                message = frame.json()
                answers[message["error"]["code"] if message["type"] == "error" else message["type"]] += 1

        reading = asyncio.create_task(read())
        while has_time() and not reading.done():
            text = (attacker.random.choice(words) * 400)[:2000]
            with contextlib.suppress(ConnectionError):
                await connection.send_json({"type": "prompt.set", "text": text})
            await asyncio.sleep(0.05)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return Outcome(told(answers))


async def guessed_resumes(attacker: Attacker) -> Outcome:
    """`session.resume` of the show with another wrong token each."""

    async def ask(number: int) -> str:
        async with attacker.http.ws_connect("/v1/realtime") as connection:
            guess = {"session_id": SHOW, "resume_token": secrets.token_urlsafe(24), "last_seq": -1}
            await connection.send_json({"type": "session.resume", **guess})
            answer = await until(connection, "session.created", "error")
            return "taken" if answer["type"] == "session.created" else str(answer["error"]["code"])

    answers = await attacker.repeat(ask, at_once=4)
    return Outcome(told(answers), ["the show was taken up"] if answers["taken"] else [])


async def taken_names(attacker: Attacker) -> Outcome:
    """`session.start` with the show's name, while its controller is there."""

    async def ask(number: int) -> str:
        async with attacker.http.ws_connect("/v1/realtime") as connection:
            await connection.send_json(START | {"name": SHOW})
            answer = await until(connection, "session.created", "session.queued", "error")
            return "taken" if answer["type"] == "session.created" else str(answer["error"]["code"])

    answers = await attacker.repeat(ask, at_once=4)
    return Outcome(told(answers), ["the show's name was taken"] if answers["taken"] else [])
