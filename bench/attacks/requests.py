"""Attacks by HTTP requests, and by what only looks like one. See `attacker.py`."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import secrets
import time
from collections import Counter

import jwt

from bench.attacks.attacker import SHOW, Attacker, Outcome, answer_of, fill, told, until

# What the server lets one peer try within a minute (`server.doors.access.peers.MAX_GUESSES`).
MAX_GUESSES = 10
MAX_CONNECTIONS_BY_PEER = 32


async def nobody(attacker: Attacker) -> Outcome:
    """The control, without an attack: the machine's own effect on the figures."""
    await asyncio.sleep(attacker.seconds)
    return Outcome("-")


# --- heads and bodies ---------------------------------------------------------------------------------------------


async def inflated_bodies(attacker: Attacker) -> Outcome:
    """Bodies of 200 MiB, compressed to 204 KB, one after the other (finding C3)."""
    body = gzip.compress(bytes(200 * 2**20), 6)
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/sdp"}

    async def ask(number: int) -> str:
        # `compress=False`: otherwise aiohttp would compress once more because of the header.
        async with attacker.http.post("/whep/nobody", data=body, headers=headers, compress=False) as response:
            return await answer_of(response)

    return Outcome(told(await attacker.repeat(ask)))


async def half_heads(attacker: Attacker) -> Outcome:
    """200 requests whose head never ends (H5)."""
    return await attacker.hold(200, attacker.head("GET /livez"), attacker.hold_heads_s)


async def half_bodies(attacker: Attacker) -> Outcome:
    """50 offers whose body never ends (H5)."""
    head = attacker.head(f"POST /whep/{SHOW}", "Content-Type: application/sdp", "Content-Length: 5000")
    return await attacker.hold(50, head + b"\r\nv=0", attacker.hold_bodies_s)


async def silent(attacker: Attacker) -> Outcome:
    """900 connections that send nothing (H5). A usual limit of open files is 1,024."""
    return await attacker.hold(900, b"", attacker.hold_heads_s)


async def bad_heads(attacker: Attacker) -> Outcome:
    """What is no HTTP, each on a connection of its own (M2): scanners send thousands."""
    heads = (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"\x16\x03\x01\x02\x00" + bytes(200), b"SSH-2.0-x\r\n\r\n")

    async def ask(number: int) -> str:
        return await attacker.raw(heads[number % len(heads)])

    return Outcome(told(await attacker.repeat(ask, at_once=4)))


async def aborted_uploads(attacker: Attacker) -> Outcome:
    """Offers whose sender leaves in mid-body (M2)."""
    head = attacker.head(f"POST /whep/{SHOW}", "Content-Type: application/sdp", "Content-Length: 5000")

    async def ask(number: int) -> str:
        _, writer = await attacker.connect()
        writer.write(head + b"\r\nv=0")
        await asyncio.sleep(0.01)
        writer.transport.abort()
        return "left"

    return Outcome(told(await attacker.repeat(ask, at_once=8)))


async def endless_requests(attacker: Attacker) -> Outcome:
    """Eight connections, each full of requests that wait for no answer (HTTP pipelining)."""
    requests = (attacker.head("GET /livez") + b"\r\n") * 100

    async def ask(number: int) -> str:
        reader, writer = await attacker.connect()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(attacker.seconds):
                await fill(reader, writer, requests, times=10**6)
        return "ended"

    return Outcome(told(await attacker.repeat(ask, at_once=8)))


async def unread_answers(attacker: Attacker) -> Outcome:
    """100 connections that ask for our largest script 50 times each, and read nothing."""
    request = (attacker.head("GET /client/vendor/selfie_segmentation/tflite-simd-1-0-0.wasm") + b"\r\n") * 50
    opened = []
    for _ in range(100):
        with contextlib.suppress(ConnectionError):
            opened.append(await attacker.connect())
    for reader, writer in opened:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(request)
    await asyncio.sleep(attacker.seconds)
    for _, writer in opened:
        writer.transport.abort()
    return Outcome(f"{len(opened)} opened")


async def unknown_scripts(attacker: Attacker) -> Outcome:
    """Scripts that do not exist, on eight connections (M6)."""

    async def ask(number: int) -> str:
        async with attacker.http.get(f"/client/{number}/x.js") as response:
            return await answer_of(response)

    return Outcome(told(await attacker.repeat(ask, at_once=8)))


# --- guesses ------------------------------------------------------------------------------------------------------


def _looked_at(answers: Counter[str]) -> list[str]:
    """The holes of a guesser that the server knows by its address."""
    holes = ["a guess was right"] if answers["taken"] else []
    num_guesses = sum(count for answer, count in answers.items() if answer.startswith("401"))
    if num_guesses > MAX_GUESSES:
        holes.append(f"{num_guesses} guesses were looked at")
    return holes


async def guessed_tokens(attacker: Attacker) -> Outcome:
    """Another wrong token with each request (M12), from an address that the server can tell from others."""

    async def ask(number: int) -> str:
        async with attacker.http.get("/metrics", params={"token": secrets.token_hex(20)}) as response:
            return await answer_of(response)

    answers = await attacker.repeat(ask, at_once=8)
    return Outcome(told(answers), _looked_at(answers))


async def guesses_with_forged_address(attacker: Attacker) -> Outcome:
    """The same, and each request claims to come from another client through a proxy. The server trusts another one."""

    async def ask(number: int) -> str:
        headers = {"X-Forwarded-For": f"203.0.113.{number % 250}", "Authorization": f"Bearer {secrets.token_hex(20)}"}
        async with attacker.http.get("/metrics", headers=headers) as response:
            return await answer_of(response)

    answers = await attacker.repeat(ask, at_once=8)
    return Outcome(told(answers), _looked_at(answers))


async def forged_secrets(attacker: Attacker) -> Outcome:
    """Client secrets without a signature (`alg: none`), with another key, of another kind, and damaged ones.

    Like a client behind an unknown proxy, so that no guess is refused unread.
    """
    claims = {"scope": ["view"], "iat": int(time.time()), "exp": int(time.time()) + 3600, "jti": "0" * 16}
    claims["aud"] = "sceneshift"
    async with attacker.insider() as http:
        async with http.post("/v1/realtime/client_secrets", json={"scope": ["view"]}) as response:
            prefix, _, good = (await response.json())["value"].partition("_")
    head, body, signature = good.split(".")

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    key = "another key that is long enough for it"
    forged = [
        jwt.encode(claims, "", algorithm="none"),
        jwt.encode(claims, key, algorithm="HS256"),
        jwt.encode(claims, key * 2, algorithm="HS512"),
        f"{part({'alg': 'none'})}.{body}.",
        f"{head}.{part(claims)}.{signature}",
        f"{head}.{body}.{signature[::-1]}",
        "." * 1000,
        "a." * 2000,
    ]

    async def ask(number: int) -> str:
        headers = {"Authorization": f"Bearer {prefix}_{forged[number % len(forged)]}", "X-Forwarded-For": "203.0.113.9"}
        async with attacker.http.get(f"/v1/sessions/{SHOW}/snapshot.jpg", headers=headers) as response:
            return await answer_of(response)

    answers = await attacker.repeat(ask, at_once=8)
    return Outcome(told(answers), ["a forged secret was taken"] if answers["taken"] else [])


async def other_sites(attacker: Attacker) -> Outcome:
    """Pages of another site, in the browser of somebody who has the token: sockets, offers and pictures."""
    attempts = (
        attacker.head(
            *("GET /v1/realtime", "Upgrade: websocket", "Connection: Upgrade", "Origin: https://evil.example"),
            *("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
        ),
        attacker.head(f"POST /whep/{SHOW}", "Origin: https://evil.example", "Content-Length: 0"),
        attacker.head(f"GET /v1/sessions/{SHOW}/snapshot.jpg", "Sec-Fetch-Site: cross-site"),
    )

    async def ask(number: int) -> str:
        return await attacker.raw(attempts[number % len(attempts)] + b"\r\n")

    answers = await attacker.repeat(ask, at_once=4)
    # A browser hides the status of a refused upgrade from its page, so the socket is opened to say why it closes.
    holes = [f"status {answer}" for answer in answers if answer not in ("101", "403", "closed")]
    return Outcome(told(answers), holes)


async def rebound_hosts(attacker: Attacker) -> Outcome:
    """A page whose own host name points to this machine (DNS rebinding), at a server without a token."""
    head = attacker.head(f"GET /v1/sessions/{SHOW}/snapshot.jpg")
    own = f"Host: {':'.join(map(str, attacker.address))}".encode()
    head = head.replace(own, b"Host: evil.example")

    async def ask(number: int) -> str:
        return await attacker.raw(head + b"\r\n")

    answers = await attacker.repeat(ask, at_once=4)
    return Outcome(told(answers), [f"status {answer}" for answer in answers if answer not in ("403", "closed")])


async def connections_of_one_peer(attacker: Attacker) -> Outcome:
    """200 connections from one address, each with a request, and kept open."""
    opened = []
    for _ in range(200):
        with contextlib.suppress(ConnectionError):
            opened.append(await attacker.connect())

    async def is_served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            writer.write(attacker.head("GET /livez") + b"\r\n")
            return bool(await reader.readline())
        except ConnectionError:
            return False

    held = sum(await asyncio.gather(*(is_served(*one) for one in opened)))
    for _, writer in opened:
        writer.transport.abort()
    return Outcome(f"{held} of 200 held", [f"{held} connections"] if held > MAX_CONNECTIONS_BY_PEER else [])


# --- pictures and recordings --------------------------------------------------------------------------------------


async def snapshots(attacker: Attacker) -> Outcome:
    """Snapshots of another width each, sixteen at once (L1)."""

    async def ask(number: int) -> str:
        width = 64 + number % 1800
        async with attacker.http.get(f"/v1/sessions/{SHOW}/snapshot.jpg", params={"width": width}) as response:
            await response.read()
            return await answer_of(response)

    return Outcome(told(await attacker.repeat(ask, at_once=16)))


async def recordings(attacker: Attacker) -> Outcome:
    """A stage of its own whose recording begins and ends as fast as it is answered, with a prompt on air."""
    async with attacker.http.ws_connect("/v1/realtime") as connection:
        await connection.send_json({"type": "session.start", "on_preview": "off"})
        await until(connection, "session.created")
        has_time, answers, is_on = attacker.until_end(), Counter[str](), True
        while has_time():
            try:
                await connection.send_json({"type": "program.record", "recording": is_on})
                answer = await until(connection, "recording.changed", "error")
            except ConnectionError:
                answers["closed"] += 1
                break
            answers[answer["error"]["code"] if answer.get("error") else "changed"] += 1
            is_on = not is_on
    return Outcome(told(answers))


async def ranges_of_a_recording(attacker: Attacker) -> Outcome:
    """A growing recording, fetched in parts of all kinds by sixteen readers at once."""
    async with attacker.http.ws_connect("/v1/realtime") as connection:
        await connection.send_json({"type": "session.start", "on_preview": "off"})
        await until(connection, "session.created")
        await connection.send_json({"type": "program.record", "recording": True})
        url = (await until(connection, "recording.changed"))["url"]
        ranges = ("bytes=0-", "bytes=-1", "bytes=1-0", "bytes=0-0,2-2,4-4", f"bytes={'9' * 300}-", "lines=1-2")

        async def ask(number: int) -> str:
            async with attacker.http.get(url, headers={"Range": ranges[number % len(ranges)]}) as response:
                await response.read()
                return str(response.status)

        return Outcome(told(await attacker.repeat(ask, at_once=16)))
