"""The JavaScript SDK under Node, as a bot uses it: no page, no video, and no token to copy."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from engine.synthetic import Script, SyntheticEngine
from server import app as server_app
from server.config import Settings
from server.run_file import Running, kept

SDK = Path(__file__).parents[3] / "client_web" / "sdk" / "sceneshift.js"
TOKEN = "a-token-for-this-test-of-forty-characters"
PATIENCE_S = 30.0
_BOT = """
const [sdk, url, token] = process.argv.slice(2);
const { connect } = await import(sdk);
try {
  const session = await connect(url, { token });
  const prompt = session.prompt("scene 3");
  console.log(await prompt.ended);
  await session.close();
} catch (error) {
  console.log(error.code, error.message);
}
"""


def _node() -> list[str]:
    """The command of a Node with WebSockets: from 22 on by itself, in 20 by a flag."""
    if (path := shutil.which("node")) is None:
        pytest.skip("Node is not installed")
    major = int(subprocess.check_output([path, "--version"], text=True).removeprefix("v").partition(".")[0])
    if major < 20:
        pytest.skip(f"Node {major} has no WebSocket")
    return [path] if major >= 22 else [path, "--experimental-websocket"]


@pytest.mark.parametrize(
    ("token", "told"), [(None, "applied"), ("the-token-of-another-server", "unauthorized the access token is not")]
)
async def test_a_bot_finds_the_token_and_reads_what_is_wrong_with_another(
    token: str | None, told: str, tmp_path: Path
) -> None:
    node = _node()
    script = tmp_path / "bot.mjs"
    script.write_text(_BOT)
    app = server_app.build(Settings(token=TOKEN), SyntheticEngine(Script(step_s=0.01, decode_s=0.01)))
    async with server_app.running(app, server_app.listen("127.0.0.1", 0)) as port:
        url = f"http://127.0.0.1:{port}/"
        own = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
        with kept(tmp_path / "sceneshift", Running(port, url, TOKEN, os.getpid())):
            process = await asyncio.create_subprocess_exec(
                *(*node, str(script), str(SDK), url, *([token] if token else [])),
                env=own,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                async with asyncio.timeout(PATIENCE_S):
                    output, errors = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
    assert output.decode().startswith(told), errors.decode()
