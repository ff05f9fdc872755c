"""Served scripts equal the files, except for comments."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from server.doors.client_scripts import ClientScripts, without_comments

CLIENT = Path(__file__).parents[3] / "client_web"
SCRIPTS = sorted(CLIENT.rglob("*.js"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_served_script_keeps_its_lines_and_loses_only_comments(path: Path) -> None:
    source = path.read_text(encoding="utf-8").split("\n")
    served = without_comments("\n".join(source)).split("\n")
    assert len(served) == len(source), "a browser's stack trace names the lines of the source"
    for before, after in zip(source, served, strict=True):
        assert after == before or (after == "" and before.strip().startswith(("/**", "*", "//")))


def test_only_lines_that_are_nothing_but_comment_become_empty() -> None:
    script = "/** a\n * b */\nf(); // c\n// d\n/** e */ g();\nconst t = `\n// not one\n`;\n/** f */\nh();"
    assert without_comments(script) == "\n\nf(); // c\n\n/** e */ g();\nconst t = `\n// not one\n`;\n\nh();"


def test_code_after_the_end_of_a_comment_stays() -> None:
    script = "/** a\n * b */ f();\n/** c\n */ const t = `\n// not one\n`;\n/** d\n*/\n// e\ng();"
    assert without_comments(script) == "\n f();\n\n const t = `\n// not one\n`;\n\n\n\ng();"


async def test_no_request_searches_the_disk_for_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.js").write_text("f();", encoding="utf-8")
    app = web.Application()
    ClientScripts(tmp_path).add_routes(app.router, "/client/")
    searched: list[Path] = []
    monkeypatch.setattr(Path, "rglob", lambda path, pattern: searched.append(path) or iter(()))
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/client/a.js")).status == 200
        assert (await client.get("/client/none.js")).status == 404
    assert searched == []


async def test_scripts_have_etags_and_nothing_outside_the_folder_is_served(tmp_path: Path) -> None:
    folder = tmp_path / "client"
    (folder / "sdk").mkdir(parents=True)
    (folder / "sdk" / "a.js").write_text("// a\nf();", encoding="utf-8")
    (tmp_path / "secret.js").write_text("no", encoding="utf-8")
    app = web.Application()
    ClientScripts(folder).add_routes(app.router, "/client/")
    async with TestClient(TestServer(app)) as client:
        first = await client.get("/client/sdk/a.js")
        assert (await first.text(), first.content_type) == ("\nf();", "text/javascript")
        again = await client.get("/client/sdk/a.js", headers={"If-None-Match": first.headers["ETag"]})
        assert again.status == 304
        (folder / "sdk" / "a.js").write_text("g(); // changed", encoding="utf-8")
        assert await (await client.get("/client/sdk/a.js")).text() == "g(); // changed"
        for path in ("..%2Fsecret.js", "sdk/%2e%2e/%2e%2e/secret.js", "none.js"):
            assert (await client.get(f"/client/{path}")).status == 404
