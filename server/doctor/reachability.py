"""The doctor's network checks: whether media gets out, whether viewers get in, and which addresses they are given.

Called by `doctor.py`; asyncio in the entry point's thread. It contacts only the ICE servers that the settings name. The
self-test serves a stage in a process of its own and watches it with aiortc, over loopback: the whole path of a picture,
except for the model.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, fields
from typing import Any

import aiohttp
from aioice import stun, turn
from aioice.ice import get_host_addresses
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from server.config import Settings
from server.media.webrtc.addresses import is_public
from server.media.webrtc.ice import Ice, IceSettings, IceUrl, bind_udp

ASK_TIMEOUT_S = 3.0
# On a busy machine the interpreter alone takes seconds to start.
SELF_TEST_TIMEOUT_S = 30.0
SELF_TEST_S = 1.0


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. `advice` says what to do, and is empty if there is nothing to do."""

    name: str
    found: str | None  # None: it does not work
    advice: str = ""
    is_needed: bool = False


async def checks(settings: Settings) -> list[Check]:
    """Runs all checks. Never raises for a network error."""
    ice = Ice(IceSettings.of(settings))
    servers = await asyncio.gather(*(_server(url, ice) for url in ice.settings.servers))
    seen = [check.found for check in servers if check.found is not None]
    return [_ports(ice.settings), *servers, _told(settings, ice.settings, seen), await self_test(settings)]


# --- our own ports ------------------------------------------------------------------------------------------------


def _ports(settings: IceSettings) -> Check:
    """Whether each port of the range can be bound: each viewer takes one on each address."""
    if settings.udp_ports is None:
        # Behind 1:1 NAT there is a firewall, and nobody opens all its ports.
        advice = "a firewall would have to let all UDP ports in; name some with --udp-ports"
        return Check("udp ports", "any", advice if settings.public_address is not None else "")
    first, last = settings.udp_ports
    count = last - first + 1
    free = sum(_is_free(port) for port in range(first, last + 1))
    if not free:
        return Check("udp ports", None, f"{first}-{last} are all in use; give another range with --udp-ports", True)
    advice = f"{count - free} of them are in use by others" if free < count else ""
    return Check("udp ports", f"{first}-{last}, {free} free: so many viewers", advice)


def _is_free(port: int) -> bool:
    try:
        for address in _addresses():
            bind_udp(address, (port, port)).close()
    except OSError:
        return False
    return True


def _addresses() -> list[str]:
    return get_host_addresses(use_ipv4=True, use_ipv6=True)


# --- ICE servers --------------------------------------------------------------------------------------------------


async def _server(url: IceUrl, ice: Ice) -> Check:
    asked = _relay(url, ice) if url.is_turn else _seen(url)
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            return Check(url.text, await asked)
    except TimeoutError:
        reason = f"no answer within {ASK_TIMEOUT_S:.0f} s: is it running, and is {url.transport.upper()} let through?"
    except stun.TransactionFailed as error:
        code = error.response.error_code if "ERROR-CODE" in error.response.attributes else 0
        reason = f"refused with {code}"
        if code == 401:
            reason += ": --turn-secret is not the server's static-auth-secret, or the clocks differ"
    except (OSError, stun.TransactionError, ConnectionError) as error:
        reason = f"cannot be reached: {error}"
    except NotImplementedError:
        return Check(url.text, "not tried: only browsers speak it")
    return Check(url.text, None, reason)


async def _seen(url: IceUrl) -> str:
    """Our address as the STUN server sees it."""
    if url.scheme != "stun":
        raise NotImplementedError
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(_Question, remote_addr=url.address)
    try:
        address, port = await protocol.answer
    finally:
        transport.close()
    return f"we are seen as {address}:{port}"


class _Question(asyncio.DatagramProtocol):
    """Asks for our address, and again each half second (RFC 8489, section 6.2.1)."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
        self._request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        self._again: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def datagram_received(self, data: bytes, address: Any) -> None:
        with contextlib.suppress(ValueError):
            message = stun.parse_message(data)
            mapped = message.attributes.get("XOR-MAPPED-ADDRESS")
            is_ours = message.transaction_id == self._request.transaction_id
            if is_ours and mapped is not None and not self.answer.done():
                self.answer.set_result((mapped[0], mapped[1]))

    def error_received(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def connection_lost(self, error: Exception | None) -> None:
        if self._again is not None:
            self._again.cancel()
        self.answer.cancel()

    def _ask(self) -> None:
        self._transport.sendto(bytes(self._request))
        self._again = asyncio.get_running_loop().call_later(0.5, self._ask)


async def _relay(url: IceUrl, ice: Ice) -> str:
    """Makes an allocation on the TURN server and gives it back; where it relays for us."""
    username, password = ice.turn_credentials("doctor")
    transport, _ = await turn.create_turn_endpoint(
        asyncio.DatagramProtocol,
        server_addr=url.address,
        username=username,
        password=password,
        ssl=url.scheme == "turns",
        transport=url.transport,
    )
    address, port = transport.get_extra_info("sockname")[:2]
    transport.close()
    return f"relays for us at {address}:{port}"


# --- what viewers are told ----------------------------------------------------------------------------------------


def _told(settings: Settings, ice: IceSettings, seen: list[str]) -> Check:
    """The addresses in our answers, and whether distant viewers could use them."""
    if ice.public_address is not None:
        return Check("viewers are told", ice.public_address, _about_public(ice.public_address, seen))
    own = _addresses()
    if not own:
        advice = "this machine has no address but loopback, and browsers cannot be reached through that; use a network"
        return Check("viewers are told", None, advice, True)
    advice = ""
    if not settings.is_loopback and not any(map(is_public, own)) and not ice.servers:
        advice = (
            "all of them are private: viewers outside of this network need --public-address with --udp-ports "
            "forwarded, or a TURN server (docs/media.md)"
        )
    return Check("viewers are told", ", ".join(own), advice)


def _about_public(address: str, seen: list[str]) -> str:
    stun_seen = [text for text in seen if text.startswith("we are seen as")]
    if stun_seen and not any(address in text for text in stun_seen):
        return f"but {stun_seen[0]}: is --public-address right?"
    if not ipaddress.ip_address(address).is_global:
        return "which only its own network can reach"
    return ""


# --- the self-test ------------------------------------------------------------------------------------------------


async def self_test(settings: Settings) -> Check:
    """A stage with the synthetic engine, its WHEP address, and one second of pictures at a real viewer."""
    name = "self-test"
    try:
        async with asyncio.timeout(SELF_TEST_TIMEOUT_S), _served(settings) as url:
            num_frames, first_s = await _watch(url)
    except TimeoutError:
        reason = "no picture came: a firewall on this machine may drop UDP between its own addresses"
    except (_SelfTestFailed, OSError, aiohttp.ClientError) as error:
        reason = str(error) or type(error).__name__
    else:
        return Check(name, f"{num_frames} pictures in {SELF_TEST_S:.0f} s, the first after {first_s * 1000:.0f} ms")
    return Check(name, None, reason, True)


class _SelfTestFailed(Exception):
    pass


@contextlib.asynccontextmanager
async def _served(settings: Settings) -> AsyncIterator[str]:
    """A server in a process of its own, with the media settings; gives its address."""
    command = [sys.executable, "-m", "server", "serve", "--engine", "synthetic", "--no-token"]
    command += ["--host", "127.0.0.1", "--port", "0"]
    if settings.udp_ports is not None:
        command += ["--udp-ports", "{}-{}".format(*settings.udp_ports)]
    names = {f"SCENESHIFT_{field.name.upper()}" for field in fields(Settings)} | {"SCENESHIFT_CONFIG"}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        while line := (await process.stdout.readline()).decode():
            if line.startswith("sceneshift: http"):
                yield line.split()[1]
                return
        raise _SelfTestFailed("`sceneshift serve --engine synthetic` ended at once; call it to see why")
    finally:
        if process.returncode is None:
            process.terminate()
        await _bounded(process.wait())


async def _watch(url: str) -> tuple[int, float]:
    """How many pictures came within `SELF_TEST_S`, and how long after the answer the first did."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    tracks: asyncio.Queue[Any] = asyncio.Queue()
    connection.on("track", tracks.put_nowait)
    connection.addTransceiver("video", direction="recvonly")
    try:
        async with aiohttp.ClientSession(url) as http, http.ws_connect("/v1/realtime") as socket:
            await socket.send_json({"type": "session.start", "width": 416, "height": 240})
            session_id = (await socket.receive_json())["session_id"]
            await socket.send_json({"type": "prompt.set", "text": "scene 1"})
            await connection.setLocalDescription(await connection.createOffer())
            offer = connection.localDescription.sdp
            async with http.post(
                f"/whep/{session_id}", data=offer, headers={"Content-Type": "application/sdp"}
            ) as answer:
                if answer.status != 201:
                    raise _SelfTestFailed(str((await answer.json())["error"]["message"]))
                await connection.setRemoteDescription(RTCSessionDescription(await answer.text(), "answer"))
            answered_at = time.monotonic()
            track = await tracks.get()
            await track.recv()
            first_s = time.monotonic() - answered_at
            num_frames = 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SELF_TEST_S):
                    while True:
                        await track.recv()
                        num_frames += 1
            return num_frames, first_s
    finally:
        await connection.close()


async def _bounded(ending: Awaitable[Any]) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(ending, 5.0)
