"""`sceneshift secret` prints a secret that the server takes, or says what is missing."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from server.doors.access import client_secrets
from server.doors.access.keyring import own_token
from server.doors.access.secrets_cli import main
from server.doors.access.token_cli import opened
from server.run_file import Running, kept
from server.store.keys import MAIN, Key

TOKEN = "a-token-for-these-tests-of-forty-letters"


def read(value: str, token: str = TOKEN) -> client_secrets.Identity:
    key = Key(MAIN, MAIN, token, client_secrets.ALL_SCOPES)
    return client_secrets.read(value, lambda key_id: key if key_id is None else None, origin=None)


def test_it_prints_a_secret_that_the_server_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCENESHIFT_TOKEN", TOKEN)
    assert main(["--scope", "prompt", "--scope", "record", "--session", "my-show", "--for", "12h"]) == 0
    value = capsys.readouterr().out.strip()
    identity = read(value)
    assert (identity.scopes, identity.session) == ({"prompt", "view", "record"}, "my-show")


def test_a_link_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--token", TOKEN]) == 0
    value = capsys.readouterr().out.strip()
    identity = read(value)
    assert identity.scopes == {"view"}
    assert 3500 < (identity.expires_at or 0) - time.time() <= 3600


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SCENESHIFT_TOKEN", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.mark.usefixtures("no_server")
def test_the_stores_own_token_is_the_default(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--data-folder", str(tmp_path)]) == 0
    with opened(tmp_path) as store:
        token = own_token(store)
    assert read(capsys.readouterr().out.strip(), token).scopes == {"view"}


@pytest.mark.usefixtures("no_server")
def test_the_token_of_the_one_server_that_runs_comes_before_the_stores(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with kept(tmp_path / "sceneshift", Running(18_080, "http://127.0.0.1:18080/", TOKEN, os.getpid())):
        assert main(["--data-folder", str(tmp_path)]) == 0
    assert read(capsys.readouterr().out.strip()).scopes == {"view"}


@pytest.mark.usefixtures("no_server")
def test_without_a_store_it_says_where_to_put_the_token(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert main(["--data-folder", str(tmp_path / "file")]) == 1
    assert "SCENESHIFT_TOKEN" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--for", "soon"], ["--scope", "all"]])
def test_a_wrong_flag_is_named(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*wrong, "--token", TOKEN])
    assert wrong[0] in capsys.readouterr().err
