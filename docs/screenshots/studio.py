"""Makes the studio's screenshot from a running server: `sceneshift serve`, then `python docs/screenshots/studio.py`.

Puts a scene on a stage of its own and shows a photograph as the browser's camera; nothing is retouched.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from websockets.asyncio.client import connect

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from stored_picture import store

from bench.parts.browser import NoBrowser, chromium
from bench.parts.controller import Controller
from sceneshift.address import Address

ROOT = Path(__file__).parent.parent.parent
PERSON = ROOT / "tests" / "browser" / "pictures" / "person.jpg"
TIMEOUT_MS = 60_000
_IS_CUT_OUT = """() => document.querySelector("#scene-state").dataset.state === "playing"
    && document.querySelector("#hint").hidden && document.querySelector("#figures").textContent !== "" """


async def _make(address: Address, prompt: str, theme: str, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        camera = Path(folder) / "Webcam.mjpeg"
        camera.write_bytes(PERSON.read_bytes() * 2)
        async with (
            connect(address.realtime_url, additional_headers=address.headers, max_size=None) as connection,
            chromium(f"--use-file-for-fake-video-capture={camera}") as browser,
        ):
            controller = Controller(connection)
            await controller.send(type="session.start", on_preview="off", transition="cut")
            created, _ = await controller.until("session.created")
            await controller.send(type="prompt.set", text=prompt)
            await controller.until("prompt.applied")
            page = await browser.new_page(
                viewport={"width": 1440, "height": 900},
                color_scheme="light" if theme == "light" else "dark",
                locale="en-US",
                permissions=["camera"],
                reduced_motion="reduce",
            )
            # The browser calls its camera by the photograph's path, which is nobody's business.
            await page.add_init_script(
                """const list = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
                navigator.mediaDevices.enumerateDevices = async () => (await list()).map((device) =>
                  ({ kind: device.kind, deviceId: device.deviceId, label: device.label && "Webcam" }));"""
            )
            await page.goto(f"{address.base}/studio?session={created['session_id']}{address.fragment}")
            await page.click("#start")
            await page.wait_for_function(_IS_CUT_OUT, timeout=TIMEOUT_MS)
            await page.evaluate("document.activeElement.blur()")
            store(await page.screenshot(), path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="as the server printed it (default: your server on this machine)")
    parser.add_argument("--prompt", default="beach at sunset")
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    parser.add_argument("--path", type=Path, default=Path(__file__).parent / "studio.webp")
    options = parser.parse_args()
    try:
        asyncio.run(_make(Address.of(options.url, None, os.environ), options.prompt, options.theme, options.path))
    except NoBrowser as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
