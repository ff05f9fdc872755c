"""Players that we did not write watch a stage by WHEP. Each test is skipped if its player is not installed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "server"))

from serving import serving

SCRIPT = Path(__file__).parent.parent.parent / "examples" / "players" / "gstreamer_whep.py"
# Debian's bindings belong to Debian's Python.
SYSTEM_PYTHON = "/usr/bin/python3"
HAS_GSTREAMER = """
import gi
gi.require_version("GstWebRTC", "1.0")
from gi.repository import Gst
Gst.init(None)
needed = ["webrtcbin", "nicesrc", "rtph264depay", "h264parse"]
raise SystemExit(not all(map(Gst.ElementFactory.find, needed)))
"""


def has_gstreamer() -> bool:
    try:
        return subprocess.run([SYSTEM_PYTHON, "-c", HAS_GSTREAMER], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


async def test_gstreamer_watches_and_leaves() -> None:
    if not has_gstreamer():
        pytest.skip("GStreamer with webrtcbin, libnice and its Python bindings is not installed")
    async with serving() as harness:
        controller = await harness.controller(name="my-show")
        await controller.apply("scene 5")
        url = f"{harness.http._base_url}/whep/my-show"
        player = await asyncio.create_subprocess_exec(
            SYSTEM_PYTHON, str(SCRIPT), url, "--sink", "fakesink", "--frames", "24",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await player.communicate()
        assert (player.returncode, out.decode().strip()) == (0, "24 pictures"), err.decode()
        (session,) = harness.registry._sessions.values()
        assert session.program.num_viewers == 0
