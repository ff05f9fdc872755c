"""One request to a stranger's server: only public addresses, no redirects, bounded in time and size."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiortc import RTCCertificate
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from receiver import held, receiving

from server.webhooks import sender as module
from server.webhooks.sender import Answer, Forbidden, Sender

INNER = (
    *("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "100.100.100.200", "0.0.0.0"),
    *(
        "192.0.0.192",
        "168.63.129.16",
        "224.0.0.1",
        "255.255.255.255",
        "fe80::1",
        "fd00:ec2::254",
        "fc00::1",
        "ff02::1",
        "::",
    ),
    *("::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "::ffff:169.254.169.254"),
)
LOOPBACK = ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1")


class Names(AbstractResolver):
    """A name server: each name has its addresses, one list for each time that it is asked."""

    def __init__(self, **names: list[list[str]]) -> None:
        self.names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if host.replace(".", "").isdigit() or ":" in host:
            answers = [host]
        elif host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        else:
            answers = self.names[host].pop(0) if len(self.names[host]) > 1 else self.names[host][0]
        kinds = [socket.AF_INET6 if ":" in one else socket.AF_INET for one in answers]
        return [
            ResolveResult(hostname=host, host=one, port=port, family=kind, proto=0, flags=0)
            for one, kind in zip(answers, kinds, strict=True)
        ]

    async def close(self) -> None: ...


@asynccontextmanager
async def sending(
    *, is_local: bool = False, timeout_s: float = 10.0, **names: list[list[str]]
) -> AsyncIterator[Sender]:
    sender = Sender(is_local=is_local, timeout_s=timeout_s, resolver=Names(**names))
    try:
        yield sender
    finally:
        await sender.close()


async def post(sender: Sender, url: str) -> Answer:
    return await sender.send(url, {}, b"{}")


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@pytest.mark.parametrize("address", INNER)
@pytest.mark.parametrize("is_local", [False, True])
async def test_nothing_is_sent_into_a_network_of_our_own(address: str, is_local: bool) -> None:
    async with sending(is_local=is_local, hook=[[address]]) as sender:
        for url in (f"http://{bracketed(address)}/", "http://hook/"):
            with pytest.raises(Forbidden):  # first, so that a fault of ours sends nothing there
                await sender.check(url)
            assert await post(sender, url) == Answer(error="forbidden address")


@pytest.mark.parametrize("address", LOOPBACK)
async def test_this_machine_is_reached_only_by_a_server_that_is_for_it_alone(address: str) -> None:
    async with sending(hook=[[address]]) as sender:
        for url in (f"https://{bracketed(address)}/", "https://hook/"):
            assert await post(sender, url) == Answer(error="forbidden address")
            with pytest.raises(Forbidden):
                await sender.check(url)
    async with sending(is_local=True, hook=[[address]]) as sender:
        await sender.check("http://hook/")
        assert (await post(sender, "http://hook:9/")).error == "no connection"


async def test_a_name_that_resolves_anew_is_refused_when_it_is_sent_to() -> None:
    """DNS rebinding: public when the endpoint is made, and at the time of the delivery this machine."""
    async with receiving() as receiver, sending(hook=[["8.8.8.8"], ["127.0.0.1"]]) as sender:
        await sender.check("https://hook/")
        assert await post(sender, receiver.url.replace("127.0.0.1", "hook")) == Answer(error="forbidden address")
        assert receiver.got == []


async def test_numbers_that_stand_for_an_address_do_not_pass() -> None:
    """2130706433 and 127.1 are 127.0.0.1 to the system's own functions."""
    async with sending() as sender:
        for host in ("2130706433", "127.1", "0x7f000001", "017700000001"):
            assert (await post(sender, f"https://{host}/")).status_code is None


async def test_an_address_of_this_machine_is_no_public_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall that keeps strangers from other ports of ours does not see what we send ourselves."""
    own = "127.0.0.1"
    assert module._is_own(own) and not module._is_own("192.0.2.1")
    monkeypatch.setattr(module.addresses, "is_loopback", lambda host: False)
    monkeypatch.setattr(module.addresses, "is_public", lambda host: True)
    monkeypatch.setattr(module.addresses, "is_never_tried", lambda host: False)
    async with sending() as sender:
        assert await post(sender, f"https://{own}/") == Answer(error="forbidden address")


async def test_a_redirect_is_not_followed() -> None:
    async def redirect(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/inner")

    async with receiving() as receiver, sending(is_local=True) as sender:
        receiver.answers["/hook"] = redirect
        answer = await post(sender, receiver.url + "/hook")
        assert answer.status_code == 302 and not answer.is_success
        assert receiver.at("/inner") == []


async def test_a_receiver_that_does_not_answer_costs_its_time_and_no_more() -> None:
    never = asyncio.Event()
    async with receiving() as receiver, sending(is_local=True, timeout_s=0.05) as sender:
        receiver.answers["/hook"] = held(never)
        assert await post(sender, receiver.url + "/hook") == Answer(error="timeout")
        never.set()


async def test_of_a_huge_answer_only_its_beginning_is_taken() -> None:
    size, written = 64 * 1024, 0
    is_over = asyncio.Event()

    async def pour(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while written < 2**30:
                await response.write(bytes(size))
                written += size
        except ConnectionError:
            pass
        finally:
            is_over.set()
        return response

    async with receiving() as receiver, sending(is_local=True) as sender:
        receiver.answers["/hook"] = pour
        assert (await post(sender, receiver.url + "/hook")).status_code == 200
        await asyncio.wait_for(is_over.wait(), 30)
        assert written < 32 * 2**20  # what fits into the buffers of two sockets


async def test_words_of_a_receiver_or_its_network_do_not_come_back() -> None:
    async with sending(is_local=True) as sender:
        assert await post(sender, "http://nowhere/") == Answer(error="no such name")
        with pytest.raises(OSError, match="no such name"):
            await sender.check("http://nowhere/")
        assert await post(sender, "http://127.0.0.1:9/") == Answer(error="no connection")


async def test_a_receiver_whose_certificate_nobody_vouches_for_gets_nothing(tmp_path: Path) -> None:
    certificate = RTCCertificate.generateCertificate()
    (tmp_path / "cert.pem").write_bytes(certificate._cert.public_bytes(Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        certificate._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    async with receiving(context) as receiver, sending(is_local=True) as sender:
        assert await post(sender, receiver.url) == Answer(error="no trusted certificate")
        assert receiver.got == []


@pytest.mark.parametrize(
    "url",
    [
        *("", "hooks.example", "ftp://hooks.example/", "https://", "https:///path", "https://hooks.example:0/"),
        *("https://hooks.example:99999/", "https://user@hooks.example/", "https://hooks.example/#a", "https://a b/"),
        *("https://hooks.example/\n", "https://hooks.example/é", "https://[::1", "https://hooks.example/" + "a" * 2048),
    ],
)
async def test_what_is_no_address_is_told(url: str) -> None:
    async with sending(is_local=True) as sender:
        assert sender.fault_of(url) is not None


async def test_others_than_this_machines_user_need_tls() -> None:
    async with sending() as public, sending(is_local=True) as local:
        assert "https" in (public.fault_of("http://hooks.example/") or "")
        assert public.fault_of("https://hooks.example:8443/clips?a=1") is None
        assert local.fault_of("http://localhost:9000/") is None


async def test_the_system_resolves_names_in_threads_of_their_own() -> None:
    sender = Sender(is_local=True)
    await sender.check("http://localhost:9/")
    assert (await sender.send("http://localhost:9/", {}, b"")).error == "no connection"
    await sender.close()
