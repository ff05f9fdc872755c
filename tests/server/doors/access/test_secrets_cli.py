"""`sceneshift secret` prints a secret that the server takes, or says what is missing."""

from __future__ import annotations

import time

import pytest

from server.doors.access import client_secrets
from server.doors.access.secrets_cli import main
from server.store.keys import MAIN, Key

TOKEN = "a-token-for-these-tests-of-forty-letters"


def read(value: str) -> client_secrets.Identity:
    key = Key(MAIN, MAIN, TOKEN, client_secrets.ALL_SCOPES)
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


def test_without_the_token_it_says_where_to_put_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCENESHIFT_TOKEN", raising=False)
    assert main([]) == 1
    assert "SCENESHIFT_TOKEN" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--for", "soon"], ["--scope", "all"]])
def test_a_wrong_flag_is_named(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*wrong, "--token", TOKEN])
    assert wrong[0] in capsys.readouterr().err
