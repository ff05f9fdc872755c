"""A stranger's test: every snippet of the documents runs as it stands, on a real server with the synthetic engine.

The test finds them itself, in README.md, docs/*.md and the examples' READMEs: fenced blocks of

* ``python``: a program; it must end well.
* ``sh`` with ``curl`` in it: run by bash; every command must succeed, and so must every HTTP request.
* ``js``: a module. It must run to its end without an error, and a stage must have been prompted or watched. A page that
  names the server is of another origin, which the server allows; one that does not is the server's own. It holds one
  ``<video>``.
* ``html``: the body of a page of another origin; Enter is pressed on the first thing that Tab reaches.
* ``text`` that is one address of the server's: opened, as OBS does.

The server has a token, and keeps it in its file, as `sceneshift serve` does: the Python SDK finds it there. A page of
the server has it in its fragment. A program that names SCENESHIFT_TOKEN gets it. SECRET stands for a client secret.

``<!-- not run: why -->`` on the line before a fence leaves it out. Snippets speak to ``http://127.0.0.1:8080``. If that
port is taken here, the port is replaced, and nothing else. The stage ``my-show`` exists for snippets that name it and
do not start it. Each snippet gets a server of its own, so that leftovers of another snippet do not count.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from stages import PATIENCE_S

from engine.synthetic import Script, SyntheticEngine
from sceneshift import connect
from server import app as server_app
from server.clock import MonotonicClock
from server.config import Settings
from server.doors.access import client_secrets
from server.doors.connections import ConnectionBounds, Connections
from server.run_file import Running, kept

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("examples/*/README.md"))]
PORT = 8080
TOKEN = "a-token-for-these-snippets-of-forty-letters"
VIDEO = "<video muted playsinline></video>"
_FENCE = re.compile(
    r"(?P<not_run><!-- not run: .+ -->\n+)?^(?P<indent>[ \t]*)```(?P<language>\w*)[^\n`]*\n"
    r"(?P<text>.*?)^(?P=indent)```[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
_ACTIVITY = r"^sceneshift_(?:sessions|(?:prompts|sent_bytes)_total)(?:\{.*\})? (\S+)$"
_ADDRESS = re.compile(rf"http://127\.0\.0\.1:{PORT}/\S*")


@dataclass(frozen=True, slots=True)
class Snippet:
    place: str  # file and line
    language: str
    text: str

    @property
    def kind(self) -> str:
        """python, sh, js, html, address; empty if the block cannot be run."""
        match self.language:
            case "python" | "html":
                return self.language
            case "js" | "javascript":
                return "js"
            case "sh" | "bash" | "shell":
                return "sh" if re.search(r"\bcurl\b", self.text) else ""
            case "" | "text" | "url":
                return "address" if _ADDRESS.fullmatch(self.text.strip()) else ""
            case _:
                return ""

    @property
    def needs_show(self) -> bool:
        return "my-show" in self.text and not re.search(r"name[\"']?\s*[:=]\s*[\"']my-show", self.text)


def snippets_of(document: str, name: str) -> list[Snippet]:
    return [
        Snippet(
            f"{name}:{document.count(chr(10), 0, found.start('text'))}",
            found["language"],
            textwrap.dedent(found["text"]),
        )
        for found in _FENCE.finditer(document)
        if found["not_run"] is None
    ]


SNIPPETS = [
    snippet
    for path in DOCUMENTS
    for snippet in snippets_of(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    if snippet.kind
]
PROGRAMS = [pytest.param(snippet, id=snippet.place) for snippet in SNIPPETS if snippet.kind in ("python", "sh")]
PAGES = [pytest.param(snippet, id=snippet.place) for snippet in SNIPPETS if snippet.kind in ("js", "html", "address")]


@dataclass(frozen=True, slots=True)
class Stand:
    """The server for a snippet, and a stranger's web server for the same browser."""

    url: str
    stranger: str
    secret: str  # a client secret that prompts
    runtime_folder: Path  # XDG_RUNTIME_DIR
    files: dict[str, str]  # the stranger's files, by path
    http: aiohttp.ClientSession

    def adapted(self, text: str) -> str:
        text = text.replace("SECRET", self.secret)
        return (
            text
            if self.url.endswith(f":{PORT}")
            else text.replace(f"127.0.0.1:{PORT}", self.url.removeprefix("http://"))
        )

    async def activity(self) -> float:
        """Grows when a stage is made, when a prompt ends, and while somebody watches."""
        async with self.http.get(f"{self.url}/metrics") as answer:
            text = await answer.text()
        return sum(map(float, re.findall(_ACTIVITY, text, re.MULTILINE)))

    async def until_active(self, before: float) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await self.activity() <= before:  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def show(self, snippet: Snippet) -> AsyncIterator[None]:
        """`my-show` with a picture, if the snippet counts on it."""
        async with AsyncExitStack() as stack:
            if snippet.needs_show:
                session = await stack.enter_async_context(connect(self.url, TOKEN, name="my-show"))
                await (await session.prompt("a red sailboat at sunset")).picture
            yield


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest_asyncio.fixture(loop_scope="session")
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    files: dict[str, str] = {}

    async def serve(request: web.Request) -> web.Response:
        kind = "text/javascript" if request.path.endswith(".js") else "text/html"
        return web.Response(text=files[request.path], content_type=kind, charset="utf-8")

    # A real one: Chromium asks where a page came from before it may speak to this machine.
    other = web.Application()
    other.router.add_get("/{name}", serve)
    other[server_app.CONNECTIONS] = Connections(ConnectionBounds(), MonotonicClock())
    async with AsyncExitStack() as stack:

        async def address_of(app: web.Application, port: int = 0) -> str:
            listener = server_app.listen("127.0.0.1", port)
            return f"http://127.0.0.1:{await stack.enter_async_context(server_app.running(app, listener))}"

        stranger = await address_of(other)
        settings = Settings(token=TOKEN, allowed_origins=(stranger,), clips_folder=str(tmp_path / "clips"))
        own = server_app.build(settings, SyntheticEngine(Script()))
        url = await address_of(own, PORT if is_free(PORT) else 0)
        running = Running(int(url.rpartition(":")[2]), f"{url}/", TOKEN, os.getpid())
        stack.enter_context(kept(tmp_path / "sceneshift", running))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        http = await stack.enter_async_context(aiohttp.ClientSession(headers=headers))
        secret = client_secrets.make(TOKEN, ["prompt"], now=time.time(), lives_s=600)
        yield Stand(url, stranger, secret, tmp_path, files, http)


def test_snippets_are_found_where_they_stand() -> None:
    document = (
        "a\n```python\nprint(1)\n```\n* in a list\n\n  ```js\n  one();\n    two();\n  ```\n"
        "<!-- not run: it would cost money -->\n```sh\ncurl x\n```\n```text\nhttp://127.0.0.1:8080/obs/my-show\n```\n```\nplain\n```\n"
    )
    found = snippets_of(document, "x.md")
    assert [(each.place, each.kind, each.text) for each in found] == [
        ("x.md:2", "python", "print(1)\n"),
        ("x.md:7", "js", "one();\n  two();\n"),
        ("x.md:15", "address", "http://127.0.0.1:8080/obs/my-show\n"),
        ("x.md:18", "", "plain\n"),
    ]
    assert found[2].needs_show
    assert not Snippet("", "js", 'connect({ name: "my-show" })').needs_show
    assert any(snippet.place.startswith("README.md") for snippet in SNIPPETS)


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("snippet", PROGRAMS)
async def test_a_program_runs_as_it_stands(snippet: Snippet, stand: Stand, tmp_path: Path) -> None:
    is_python = snippet.kind == "python"
    file = tmp_path / ("snippet.py" if is_python else "snippet.sh")
    file.write_text(stand.adapted(snippet.text), encoding="utf-8")
    (tmp_path / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")
    command = [sys.executable, str(file)] if is_python else ["bash", "-euo", "pipefail", str(file)]
    own = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "client_web" / "python")]),
        "SCENESHIFT_URL": stand.url,
        "XDG_RUNTIME_DIR": str(stand.runtime_folder),
        **({"SCENESHIFT_TOKEN": TOKEN} if "SCENESHIFT_TOKEN" in snippet.text else {}),
        "CURL_HOME": str(tmp_path),  # an HTTP error is curl's failure, too
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
    }
    async with stand.show(snippet):
        process = await asyncio.create_subprocess_exec(
            *command, env=own, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, output.decode()


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("snippet", PAGES)
async def test_a_page_runs_as_it_stands(snippet: Snippet, stand: Stand, browser: Browser) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        async with stand.show(snippet):
            before = await stand.activity()
            assert before == (2 if snippet.needs_show else 0)  # a stage and its prompt, no more
            await _open(page, snippet, stand)
            await stand.until_active(before)
    finally:
        await context.close()
        assert errors == []


async def _open(page: Page, snippet: Snippet, stand: Stand) -> None:
    text = stand.adapted(snippet.text)
    match snippet.kind:
        case "address":
            answer = await page.goto(text.strip())
            assert answer is not None and answer.ok
        case "html":
            stand.files["/page.html"] = f"<!doctype html><meta charset=utf-8><link rel=icon href=data:,>{text}"
            await page.goto(f"{stand.stranger}/page.html")
            await page.keyboard.press("Tab")
            await page.keyboard.press("Enter")
        case "js" if stand.url in text:
            stand.files["/page.html"] = f"<!doctype html><link rel=icon href=data:,>{VIDEO}"
            stand.files["/page.js"] = text
            await page.goto(f"{stand.stranger}/page.html")
            await page.evaluate("() => import('/page.js').then(() => true)")
        case "js":
            await page.route("**/page.js", lambda route: route.fulfill(content_type="text/javascript", body=text))
            await page.goto(f"{stand.url}/livez#token={TOKEN}")
            await page.evaluate("(video) => { document.body.innerHTML = video; }", VIDEO)
            await page.evaluate("() => import('/page.js').then(() => true)")
        case _:
            raise AssertionError(snippet.kind)
