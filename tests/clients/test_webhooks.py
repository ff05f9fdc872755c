"""Webhooks are made by OpenAI's client and verified by it and by `standardwebhooks`, unchanged, on a real server.

Both are in an environment of their own. The test is skipped, with the reason, where they cannot be installed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "server"))

import environments
from serving import serving

HERE = Path(__file__).parent
TOKEN = "a-token-for-these-clients-that-has-more-than-forty-eight-letters"
# The newest of 29 November 2026. Nothing of ours depends on them.
PACKAGES = ("openai==3.57.0", "standardwebhooks==1.1.0")


async def test_a_customers_program_is_told_and_believes_it(tmp_path: Path) -> None:
    try:
        programs = await asyncio.to_thread(environments.python, *PACKAGES)
    except environments.Unusable as unusable:
        pytest.skip(f"{' and '.join(PACKAGES)} cannot be installed: {unusable}")
    async with serving(token=TOKEN, clips_folder=str(tmp_path / "clips")) as server:
        async with asyncio.timeout(30):
            while not server.registry.is_ready:  # noqa: ASYNC110  the engine's state, on the same loop
                await asyncio.sleep(0.01)
        program, url = HERE / "with_webhooks.py", str(server.http._base_url).rstrip("/")
        out = await environments.run(programs / "python", program, url, TOKEN, cwd=tmp_path)
    assert out.endswith("ok\n"), out[-3000:]
