"""The file of a running server, and the two SDKs that read it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sceneshift import run_file as python_sdk
from sceneshift.address import Address
from server.run_file import RunFileError, Running, all_running, folder_of, kept

ROOT = Path(__file__).parent.parent.parent
PORT = 18_080
TOKEN = "0123456789abcdef0123"
NO_SUCH_PID = 2**22 + 1  # above the largest that Linux gives


def running(pid: int | None = None, *, token: str | None = TOKEN, port: int = PORT) -> Running:
    return Running(port, f"http://127.0.0.1:{port}/", token, pid or os.getpid())


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": str(tmp_path / "runtime"), "HOME": str(tmp_path / "home")}


def folder(environment: dict[str, str]) -> Path:
    return folder_of(environment, Path(environment["HOME"]) / ".local" / "share" / "sceneshift")


def test_only_its_owner_may_read_the_file_which_ends_with_the_server(environment: dict[str, str]) -> None:
    with kept(folder(environment), running()) as path:
        assert path == Path(environment["XDG_RUNTIME_DIR"]) / "sceneshift" / f"{PORT}.json"
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        assert [one.link for one in all_running(environment)] == [f"http://127.0.0.1:{PORT}/#token={TOKEN}"]
    assert list(path.parent.iterdir()) == []


def test_without_a_runtime_folder_the_file_lies_in_the_data_folder(environment: dict[str, str]) -> None:
    del environment["XDG_RUNTIME_DIR"]
    with kept(folder(environment), running()) as path:
        assert path == Path(environment["HOME"]) / ".local/share/sceneshift/run" / f"{PORT}.json"
        assert len(all_running(environment)) == 1
        assert python_sdk.token_at(PORT, environment) == TOKEN


def test_a_wider_folder_is_made_private(environment: dict[str, str]) -> None:
    folder(environment).mkdir(parents=True, mode=0o755)
    with kept(folder(environment), running()) as path:
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_a_link_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder(environment).parent.mkdir(parents=True)
    folder(environment).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunFileError, match="is a link"), kept(folder(environment), running()):
        pass
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_of_a_server_that_died_is_ignored_and_replaced(environment: dict[str, str]) -> None:
    folder(environment).mkdir(parents=True)
    (folder(environment) / f"{PORT}.json").write_text(json.dumps({"url": "x", "token": "old", "pid": NO_SUCH_PID}))
    assert all_running(environment) == []
    assert python_sdk.token_at(PORT, environment) is None
    with kept(folder(environment), running()):
        assert python_sdk.token_at(PORT, environment) == TOKEN


def test_the_file_of_another_server_with_the_same_port_stays(environment: dict[str, str]) -> None:
    with kept(folder(environment), running()) as path:
        path.write_text(json.dumps({"url": "http://[::1]/", "token": "its", "pid": os.getppid()}))
    assert json.loads(path.read_text())["token"] == "its"


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"url": 1, "token": null, "pid": 1}', '{"url": "x", "token": "y", "pid": -1}', "\0"]
)
def test_what_no_server_has_written_is_no_server(content: str, environment: dict[str, str]) -> None:
    folder(environment).mkdir(parents=True)
    (folder(environment) / f"{PORT}.json").write_text(content)
    (folder(environment) / "notes.json").write_text('{"url": "x", "token": "y", "pid": 1}')
    assert all_running(environment) == []
    assert python_sdk.token_at(PORT, environment) is None


@pytest.mark.parametrize(
    ("url", "token", "more", "expected"),
    [
        (f"http://127.0.0.1:{PORT}", None, {}, TOKEN),
        (f"ws://localhost:{PORT}/v1/realtime", None, {}, TOKEN),
        (f"http://[::1]:{PORT}", None, {}, TOKEN),
        (f"http://127.0.0.1:{PORT + 1}", None, {}, None),
        (f"https://stage.example:{PORT}", None, {}, None),
        (f"http://127.0.0.1:{PORT}#token=of-the-url", None, {}, "of-the-url"),
        (f"http://127.0.0.1:{PORT}", "of-the-argument", {}, "of-the-argument"),
        (f"http://127.0.0.1:{PORT}", None, {"SCENESHIFT_TOKEN": "of-the-environment"}, "of-the-environment"),
    ],
)
def test_the_python_sdk_finds_the_token_of_a_loopback_address(
    url: str, token: str | None, more: dict[str, str], expected: str | None, environment: dict[str, str]
) -> None:
    with kept(folder(environment), running()):
        assert Address.of(url, token, environment | more).token == expected


_NODE = """
const { tokenFor } = await import(process.argv[2]);
for (const url of process.argv.slice(3)) console.log(tokenFor(url));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
@pytest.mark.parametrize("has_runtime_folder", [True, False])
def test_the_javascript_sdk_under_node_finds_the_same(
    has_runtime_folder: bool, environment: dict[str, str], tmp_path: Path
) -> None:
    if not has_runtime_folder:
        del environment["XDG_RUNTIME_DIR"]
    script = tmp_path / "find.mjs"
    script.write_text(_NODE)
    urls = [f"http://127.0.0.1:{PORT}/", f"http://[::1]:{PORT}/", f"http://stage.example:{PORT}/"]
    command = ["node", str(script), str(ROOT / "client_web" / "sdk" / "node.js"), *urls, "http://localhost:1/"]
    own = {"PATH": os.environ["PATH"]} | environment
    stale = json.dumps({"url": "x", "token": "old", "pid": NO_SUCH_PID})
    with kept(folder(environment), running()):
        (folder(environment) / "1.json").write_text(stale)
        done = subprocess.run(command, env=own, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [TOKEN, TOKEN, "null", "null"]
        own["SCENESHIFT_TOKEN"] = "of-the-environment"
        done = subprocess.run(command[:4], env=own, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["of-the-environment"]
