"""The proxies' example files, with other name, ports and certificate: a real proxy, TLS, a real server."""

from __future__ import annotations

import asyncio
import datetime
import re
import shutil
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

sys.path.insert(0, str(Path(__file__).parent.parent / "server"))

from serving import Serving, serving
from viewer import Viewer

from bench.parts.browser import chromium

EXAMPLES = Path(__file__).parent.parent.parent / "deploy" / "proxy"
NAME = "stage.example"
TOKEN = "0123456789abcdef0123"
PATIENCE_S = 20.0


class Here(AbstractResolver):
    """A resolver for which every name is this machine."""

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None: ...


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(
        now + datetime.timedelta(days=1)
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    pem, private = folder / "certificate.pem", folder / "key.pem"
    pem.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, private


def _replaced(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in text, f"the example has no {old!r} any more"
        text = text.replace(old, new)
    return text


def _caddy(folder: Path, port: int, server_port: int) -> list[str]:
    pem, key = _certificate(folder)
    changes = {"127.0.0.1:8080": f"127.0.0.1:{server_port}", f"\n{NAME} {{": f"\n{NAME}:{port} {{\n\ttls {pem} {key}"}
    options = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"
    (folder / "Caddyfile").write_text(options + _replaced((EXAMPLES / "Caddyfile").read_text(), changes))
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


def _nginx(folder: Path, port: int, server_port: int) -> list[str]:
    pem, key = _certificate(folder)
    changes = {
        "127.0.0.1:8080": f"127.0.0.1:{server_port}",
        "listen 443": f"listen 127.0.0.1:{port}",
        f"/etc/ssl/certs/{NAME}.pem": str(pem),
        f"/etc/ssl/private/{NAME}.key": str(key),
        "/var/log/nginx/": f"{folder}/",
    }
    (folder / "sceneshift.conf").write_text(_replaced((EXAMPLES / "nginx.conf").read_text(), changes))
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
    (folder / "nginx.conf").write_text(f"{whole}http {{ {paths} include {folder}/sceneshift.conf; }}\n")
    return ["nginx", "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]


def _caddy_that_logs(folder: Path, port: int, server_port: int) -> list[str]:
    """Caddy with the example's log turned on. It has each address with its query."""
    command = _caddy(folder, port, server_port)
    lines = (folder / "Caddyfile").read_text().splitlines()
    text = "\n".join(line.removeprefix("#") if line.startswith("#\t") else line for line in lines)
    (folder / "Caddyfile").write_text(_replaced(text, {"/var/log/caddy/": f"{folder}/"}) + "\n")
    return command


def _nginx_that_logs(folder: Path, port: int, server_port: int) -> list[str]:
    """nginx that logs each address with its query, and what led there."""
    command = _nginx(folder, port, server_port)
    text = (folder / "sceneshift.conf").read_text()
    (folder / "sceneshift.conf").write_text(_replaced(text, {"$uri $status": "$request_uri $http_referer $status"}))
    return command


Command = Callable[[Path, int, int], list[str]]


def _each(**commands: Command) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "command",
        [
            pytest.param(
                command, id=name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"{name} is not installed")
            )
            for name, command in commands.items()
        ],
    )


each_proxy = _each(caddy=_caddy, nginx=_nginx)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@asynccontextmanager
async def proxied(command: Command, folder: Path, port: int, harness: Serving) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client through the proxy, which knows only the proxy's name."""
    assert harness.http._base_url is not None and harness.http._base_url.port is not None
    environment = {"PATH": "/usr/sbin:/usr/bin:/bin", "HOME": str(folder)}
    log = (folder / "output").open("wb")
    process = await asyncio.create_subprocess_exec(
        *command(folder, port, harness.http._base_url.port), stdout=log, stderr=log, env=environment
    )
    trusting = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
    connector = aiohttp.TCPConnector(resolver=Here(), ssl=trusting)
    try:
        async with aiohttp.ClientSession(f"https://{NAME}:{port}", connector=connector) as http:
            async with asyncio.timeout(PATIENCE_S):
                while not await _answers(http):
                    assert process.returncode is None, (folder / "output").read_text()
                    await asyncio.sleep(0.05)
            yield http
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        log.close()


async def _answers(http: aiohttp.ClientSession) -> bool:
    try:
        async with http.get("/livez"):
            return True
    except aiohttp.ClientConnectionError:
        return False


@each_proxy
async def test_a_whole_show_goes_through_the_proxy_with_the_token(command: Command, tmp_path: Path) -> None:
    port = _free_port()
    origin = f"https://{NAME}:{port}"
    async with serving(token=TOKEN, allowed_origins=(origin,)) as harness:
        async with proxied(command, tmp_path, port, harness) as http, asyncio.timeout(PATIENCE_S):
            async with http.get("/") as page:
                assert page.status == 200
            async with http.get("/metrics") as stranger:
                assert stranger.status == 401
            through = Serving(http, harness.app)
            controller = await through.controller(token=TOKEN, name="my-show")
            await controller.apply("scene 5")
            watching = await http.ws_connect(controller.path(f"watch?token={TOKEN}"), headers={"Origin": origin})
            assert (await watching.receive_json())["type"] == "stream.started"
            assert len([await watching.receive_bytes() for _ in range(10)]) == 10
            viewer = Viewer()
            sdp = {"Content-Type": "application/sdp", "Authorization": f"Bearer {TOKEN}"}
            async with http.post("/whep/my-show", data=await viewer.offer(), headers=sdp) as answer:
                assert answer.status == 201
                await viewer.answer(await answer.text())
            await viewer.until_number(5)
            await viewer.close()
        logged = "".join(path.read_text() for path in tmp_path.iterdir() if path.suffix == ".log")
        assert TOKEN not in logged + (tmp_path / "output").read_text()


@each_proxy
async def test_behind_the_proxy_a_server_without_a_token_serves_nobody(command: Command, tmp_path: Path) -> None:
    async with serving() as harness:
        async with proxied(command, tmp_path, _free_port(), harness) as http:
            for path in ("/", "/livez", "/v1/realtime", "/whep/my-show"):
                async with http.get(path) as response:
                    code = (await response.json())["error"]["code"]
                    assert (response.status, code) == (403, "token_needed_behind_proxy")


@pytest.mark.browser
@_each(caddy=_caddy_that_logs, nginx=_nginx_that_logs)
async def test_a_show_by_our_pages_leaves_nothing_useful_in_a_log_of_whole_addresses(
    command: Command, tmp_path: Path
) -> None:
    port = _free_port()
    origin = f"https://{NAME}:{port}"
    async with (
        serving(token=TOKEN, allowed_origins=(origin,), recordings_folder=str(tmp_path / "recordings")) as harness,
        proxied(command, tmp_path, port, harness) as http,
        chromium(f"--host-resolver-rules=MAP {NAME} 127.0.0.1") as browser,
        await browser.new_context(ignore_https_errors=True, locale="en-US") as context,
    ):
        context.set_default_timeout(1000 * PATIENCE_S)
        # Without WebRTC the pictures take the WebSocket, through the proxy.
        await context.add_init_script("delete window.RTCPeerConnection;")
        await _show_by_pages(context, origin)
        await context.close()  # a proxy logs a WebSocket when it has ended
        async with asyncio.timeout(PATIENCE_S):
            while not _has_sockets(logged := (tmp_path / "sceneshift.log").read_text()):  # noqa: ASYNC110  another process's file
                await asyncio.sleep(0.05)
        assert "/recordings/" in logged
        assert TOKEN not in logged + (tmp_path / "output").read_text()
        for secret in re.findall(r"ek_[\w.-]+", logged):
            for path in ("/v1/realtime/client_secrets", "/metrics", "/v1/sessions/x/snapshot.jpg"):
                async with http.get(path, headers={"Authorization": f"Bearer {secret}"}) as answer:
                    assert answer.status == 401, "it was for one use"


def _has_sockets(logged: str) -> bool:
    """Whether the console's connection and both viewers' are in the log: with status 101, or 0 by older Caddy."""
    upgrades = [line for line in logged.splitlines() if re.search(r'"status":(0|101)\b| 101 ', line)]
    return any("/v1/realtime" in line for line in upgrades) and sum("/watch" in line for line in upgrades) >= 2


async def _show_by_pages(context: Any, origin: str) -> None:
    """The console with a prompt and a recording that is fetched, the page for OBS and the studio."""
    console = await context.new_page()
    await console.goto(f"{origin}/#token={TOKEN}")
    await console.wait_for_selector("#monitor[data-video=playing]")
    await console.click("#record")
    await console.fill("#prompt-text", "scene 5")
    await console.press("#prompt-text", "Enter")
    await console.wait_for_selector(".history-row[data-state=on_air]")
    await console.click("#record")
    async with console.expect_download() as downloading:
        await console.click("#record-link")
    assert Path(await (await downloading.value).path()).stat().st_size > 0
    await console.click("#share")
    for kind, seen in (("obs", "#picture[data-shown=true]"), ("studio", "#scene-state[data-state=playing]")):
        await console.check(f"input[name=share-kind][value={kind}]", force=True)
        page = await context.new_page()
        await page.goto((await console.inner_text(".snippet")).strip())
        await page.wait_for_selector(seen, state="attached")
