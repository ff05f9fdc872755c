"""Makes the README's contact sheet: twelve prompts in both languages and the middle of what each became, seeds 0 to 11.

`python docs/screenshots/contact_sheet.py`. The real engine process; no picture is chosen among several.
"""

from __future__ import annotations

import asyncio
import base64
import html
import io
import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from stored_picture import store

from bench.parts.browser import chromium
from engine.api import Frames, FramesReady, Generate, GenerationFinished, Quality
from engine.config import EngineSettings
from engine.process.supervisor import EngineProcess

PICTURE = Path(__file__).with_name("contact-sheet.webp")
PROMPTS = (
    "a red sailboat on the sea at sunset",
    "雨夜的咖啡馆里有一只白猫",
    "how does a volcano erupt?",
    "樱花飘落的花园，清晨",
    "a girl in a red dress dancing on the beach at sunset",
    "夜晚城市里的蓝色汽车",
    "a green dinosaur in the classroom",
    "下雪的夜晚，温馨的房间",
    "a purple hot-air balloon over the windmills at dawn",
    "极光下的白色小狗",
    "children playing in the park by day",
    "海底的黄色小鱼",
)
_PAGE = """<meta charset="utf-8"><style>
body {{ margin: 0; padding: 16px; background: #0b0d11; color: #e8eaf0; font: 17px "Noto Sans CJK SC", sans-serif; }}
main {{ display: grid; grid-template-columns: repeat(3, 400px); gap: 14px; }}
figure {{ margin: 0; }} img {{ width: 400px; display: block; border-radius: 8px; }} figcaption {{ padding: 6px 2px; }}
</style><main>{figures}</main>"""


async def main() -> None:
    engine = EngineProcess(EngineSettings(keep_spare=False))
    await engine.open()
    for index, prompt in enumerate(PROMPTS):
        engine.send(Generate(str(index), prompt, Quality.FAST, seed=index, wants_previews=False))
    middles: dict[str, Frames] = {}
    num_finished = 0
    async for event in engine.events():
        if isinstance(event, FramesReady) and event.first_index <= 12:
            middles[event.generation_id] = event.frames
        num_finished += isinstance(event, GenerationFinished)
        if num_finished == len(PROMPTS):
            break
    await engine.close()
    figures = "".join(
        f'<figure><img src="{_data_uri(middles[str(index)])}"><figcaption>{html.escape(prompt)}</figcaption></figure>'
        for index, prompt in enumerate(PROMPTS)
    )
    async with chromium() as browser:
        page = await browser.new_page(viewport={"width": 1260, "height": 600})
        await page.set_content(_PAGE.format(figures=figures))
        store(await page.screenshot(full_page=True), PICTURE)


def _data_uri(frames: Frames) -> str:
    """The last frame, scaled as the program scales it."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frames.planes[-1]), format="yuv420p")
    # As the program covers its 832x480: twice the size, and what hangs over cut off.
    picture = frame.reformat(width=832, height=512, interpolation="LANCZOS").to_ndarray(format="rgb24")[16:-16]
    stored = io.BytesIO()
    Image.fromarray(picture).save(stored, "PNG")
    return "data:image/png;base64," + base64.b64encode(stored.getvalue()).decode()


if __name__ == "__main__":
    asyncio.run(main())
