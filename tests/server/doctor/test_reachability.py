"""The doctor's network checks: with real servers, silent ones, and coturn if it is installed."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aioice import stun
from aioice.ice import get_host_addresses
from serving import serving
from viewer import Viewer

from server.config import Settings
from server.doctor import reachability
from server.doctor.reachability import Check
from server.media.webrtc.ice import IceSettings, bind_udp

SECRET = "north-wind-and-sun"
SDP = {"Content-Type": "application/sdp"}
_SELF_TEST = reachability.self_test  # a server process: made once


def named(checks: list[Check], name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found


@pytest.fixture(autouse=True)
def no_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    async def passed(settings: Settings) -> Check:
        return Check("self-test", "not made")

    monkeypatch.setattr(reachability, "self_test", passed)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that is in use on all our addresses."""
    taken: list[socket.socket] = []
    for address in get_host_addresses(use_ipv4=True, use_ipv6=True):
        port = taken[0].getsockname()[1] if taken else None
        taken.append(bind_udp(address, (port, port) if port else None))
    yield taken[0].getsockname()[1]
    for one in taken:
        one.close()


async def test_a_range_of_ports_in_use_is_reported(taken_port: int) -> None:
    told = named(await reachability.checks(Settings(udp_ports=(taken_port, taken_port))), "udp ports")
    assert told.found is None and told.is_needed
    assert f"{taken_port}-{taken_port} are all in use" in told.advice


async def test_a_dead_stun_server_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachability, "ASK_TIMEOUT_S", 0.05)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"stun:127.0.0.1:{silent.getsockname()[1]}"
        told = named(await reachability.checks(Settings(ice_servers=(url,))), url)
    assert told.found is None and "no answer" in told.advice and "UDP" in told.advice


async def test_the_addresses_that_viewers_would_get_are_reported() -> None:
    own = named(await reachability.checks(Settings()), "viewers are told")
    assert own.found is not None and get_host_addresses(use_ipv4=True, use_ipv6=False)[0] in own.found
    public = named(await reachability.checks(Settings(public_address="8.8.8.8")), "viewers are told")
    assert public == Check("viewers are told", "8.8.8.8")
    local = named(await reachability.checks(Settings(public_address="192.168.1.5")), "viewers are told")
    assert "own network" in local.advice


def test_a_public_address_that_differs_from_stuns_is_questioned() -> None:
    ice = IceSettings(public_address="8.8.8.8")
    told = reachability._told(Settings(), ice, ["we are seen as 9.9.9.9:4000"])
    assert "9.9.9.9" in told.advice
    assert reachability._told(Settings(), ice, ["we are seen as 8.8.8.8:4000"]).advice == ""


def test_a_reachable_server_with_only_private_addresses_gets_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachability, "_addresses", lambda: ["10.0.0.2"])
    settings = Settings(host="0.0.0.0", token="0123456789abcdef")
    assert "--public-address" in reachability._told(settings, IceSettings(), []).advice
    monkeypatch.setattr(reachability, "_addresses", lambda: [])
    assert reachability._told(settings, IceSettings(), []).found is None


async def test_the_self_test_sees_pictures_through_the_whole_server() -> None:
    told = await _SELF_TEST(Settings())
    assert told.found is not None, told.advice
    found = re.match(r"(\d+) pictures", told.found)
    assert found is not None and int(found[1]) > 1


# --- a real TURN server, where Debian's coturn is installed -------------------------------------------------------


@pytest.fixture
async def coturn(tmp_path: Path) -> AsyncIterator[int]:
    """The port of a TURN server that shares our secret."""
    if shutil.which("turnserver") is None:
        pytest.skip("coturn is not installed")
    async with _running_coturn(tmp_path) as port:
        yield port


@asynccontextmanager
async def _running_coturn(folder: Path) -> AsyncIterator[int]:
    (host,) = get_host_addresses(use_ipv4=True, use_ipv6=False)[:1]
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    command = ["turnserver", "-n", "--use-auth-secret", f"--static-auth-secret={SECRET}", "--realm=stage.example"]
    command += [f"--listening-ip={host}", f"--relay-ip={host}", f"--listening-port={port}", "--no-cli", "--no-tls"]
    command += ["--no-dtls", "--log-file=stdout", f"--pidfile={folder / 'pid'}", f"--userdb={folder / 'db'}"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, cwd=folder
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            while True:  # until it listens for TCP, which it does last
                try:
                    _, writer = await asyncio.open_connection(host, port)
                except OSError:
                    assert await process.stdout.readline(), "coturn ended at once"
                else:
                    writer.close()
                    break
            await _answers_udp(host, port)
        yield port
    finally:
        process.kill()
        process._transport.close()  # type: ignore[attr-defined]
        await process.wait()


async def _answers_udp(host: str, port: int) -> None:
    """coturn listens for UDP in its own threads, soon after TCP; until then the kernel refuses."""
    request = bytes(stun.Message(stun.Method.BINDING, stun.Class.REQUEST))
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        asking.connect((host, port))
        while True:
            try:
                await loop.sock_sendall(asking, request)
                async with asyncio.timeout(1.0):
                    await loop.sock_recv(asking, 1500)
            except (ConnectionRefusedError, TimeoutError):
                continue
            return


async def test_a_real_turn_server_takes_our_credentials(coturn: int) -> None:
    host = get_host_addresses(use_ipv4=True, use_ipv6=False)[0]
    urls = tuple(f"turn:{host}:{coturn}?transport={transport}" for transport in ("udp", "tcp"))
    stun = f"stun:{host}:{coturn}"
    told = await reachability.checks(Settings(ice_servers=(*urls, stun), turn_secret=SECRET))
    assert all(str(named(told, url).found).startswith(f"relays for us at {host}") for url in urls), told
    assert str(named(told, stun).found).startswith(f"we are seen as {host}")
    refused = named(await reachability.checks(Settings(ice_servers=urls[:1], turn_secret="another secret")), urls[0])
    assert refused.found is None and "--turn-secret" in refused.advice


async def test_media_flows_through_our_relay_to_a_viewer_that_nothing_else_reaches(coturn: int) -> None:
    host = get_host_addresses(use_ipv4=True, use_ipv6=False)[0]
    url = f"turn:{host}:{coturn}?transport=tcp"
    async with serving(ice_servers=(url,), turn_secret=SECRET) as harness:
        controller = await harness.controller(name="my-show")
        viewer = Viewer()
        async with harness.http.post("/whep/my-show", data=await viewer.offer(), headers=SDP) as response:
            answer = await response.text()
        kinds = re.findall(r"typ (\w+)", answer)
        assert "relay" in kinds
        only_relay = [line for line in answer.splitlines() if "a=candidate" not in line or " typ relay" in line]
        await viewer.answer("\r\n".join(only_relay) + "\r\n")
        await controller.apply("scene 4")
        await viewer.until_number(4)
        await viewer.close()
