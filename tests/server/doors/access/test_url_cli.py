"""`sceneshift url` prints the address of a server of this user that runs, with its token."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from server.doors.access.url_cli import main
from server.run_file import Running, kept

TOKEN = "0123456789abcdef0123"


def test_each_running_server_is_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    open_one = Running(18_081, "http://127.0.0.1:18081/", None, os.getpid())
    with kept(tmp_path / "sceneshift", Running(18_080, "http://127.0.0.1:18080/", TOKEN, os.getpid())):
        with kept(tmp_path / "sceneshift", open_one):
            assert main([]) == 0
            assert main(["--port", "18081"]) == 0
    first, *others = capsys.readouterr().out.split()
    assert first == f"http://127.0.0.1:18080/#token={TOKEN}"
    assert others == ["http://127.0.0.1:18081/"] * 2


def test_without_a_server_it_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert main(["--port", "18080", "--data-folder", str(tmp_path)]) == 1
    assert "no server of yours runs on this machine on port 18080" in capsys.readouterr().err
