"""The programs of docs/widget.md that make a client secret, each run by its own interpreter, as they stand."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from server.doors.access import client_secrets
from server.store.keys import MAIN, Key

DOCUMENT = Path(__file__).parents[4] / "docs" / "widget.md"
TOKEN = "a-token-for-these-tests-of-forty-letters"
KEY = "sk_0a1b2c3d_a-key-for-these-tests-of-forty-letters"
ORIGIN = "https://shop.example"
INTERPRETERS = {"python": [sys.executable, "-c"], "js": ["node", "--input-type=module", "-e"], "php": ["php", "-r"]}


def program(language: str) -> str:
    section = DOCUMENT.read_text(encoding="utf-8").partition("## A secret for each visitor")[2].partition("\n## ")[0]
    found = re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


@pytest.mark.parametrize(("text", "key_id"), [(TOKEN, MAIN), (KEY, "0a1b2c3d")], ids=["token", "key"])
@pytest.mark.parametrize("language", INTERPRETERS)
def test_the_program_makes_a_secret_that_the_server_takes(language: str, text: str, key_id: str) -> None:
    command = INTERPRETERS[language]
    path = shutil.which(command[0])
    if path is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(
        [path, *command[1:], program(language)],
        env={"SCENESHIFT_TOKEN": text},
        capture_output=True,
        text=True,
        check=True,
    )
    key = Key(key_id, "a key", text, client_secrets.ALL_SCOPES)
    signers = {None if key_id == MAIN else key_id: key}
    identity = client_secrets.read(done.stdout.strip(), signers.get, origin=ORIGIN)
    assert (identity.scopes, identity.session, identity.origins) == ({"prompt", "view"}, "shop-1", (ORIGIN,))
    assert 590 < (identity.expires_at or 0) - time.time() <= 600
