"""The studio in a real Chromium, whose camera shows a pattern, an empty room or a photograph of a person.

Pixels are compared as a person would see them: the compositor's own canvas, or a screenshot of the page.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from stages import PATIENCE_MS
from websockets.asyncio.client import connect

from bench.parts.browser import chromium
from bench.parts.controller import Controller

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

# A public-domain portrait by NASA (Eileen Collins, 1993): a head in the middle, a flag and a shuttle behind.
PERSON = Path(__file__).parent.parent / "pictures" / "person.jpg"
# Blue, unlike the fake camera (green) and skin.
BLUE_SCENE = "scene 8"

# Keeps the camera's tracks, and starts with few lines: every pixel is painted by the CPU here.
_PROBE = """
window.cameraTracks = [];
if (navigator.mediaDevices) {
  const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    const stream = await open(wanted);
    window.cameraTracks.push(...stream.getTracks());
    return stream;
  };
}
if (!localStorage.getItem("sceneshift.studio")) localStorage.setItem("sceneshift.studio", '{"resolution": "360"}');
"""


class Studio:
    """The page, through the eyes and hands of a streamer."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    async def until(self, expression: str) -> None:
        await self.page.wait_for_function(expression, timeout=PATIENCE_MS)

    async def scene_is(self, state: str) -> None:
        await self.until(f"() => document.querySelector('#scene-state').dataset.state === '{state}'")

    async def camera_is(self, state: str) -> None:
        await self.until(f"() => document.querySelector('#camera-state').dataset.state === '{state}'")

    async def start(self) -> None:
        await self.page.click("#start")
        await self.camera_is("live")

    async def is_cut_out(self) -> None:
        """Waits for the first mask: then the hint that it is loading disappears."""
        await self.until("() => document.querySelector('#hint').hidden")

    async def problem(self) -> str:
        await self.until("() => document.querySelector('#problems').children.length > 0")
        return str(await self.page.inner_text("#problems"))

    async def setting(self, name: str) -> Any:
        return await self.page.evaluate("(name) => JSON.parse(localStorage.getItem('sceneshift.studio'))[name]", name)

    async def picture(self) -> NDArray[np.int16]:
        return await seen(self.page.locator("#picture"))


async def seen(place: Any) -> NDArray[np.int16]:
    """What a person sees there: 160x90 pixels, HWC, 0 to 255."""
    picture = Image.open(io.BytesIO(await place.screenshot())).convert("RGB").resize((160, 90), Image.Resampling.BOX)
    return np.asarray(picture).astype(np.int16)


OpenStudio = Callable[..., Awaitable[Studio]]


@pytest_asyncio.fixture(loop_scope="session")
async def stage(synthetic_url: str) -> AsyncIterator[str]:
    """The id of a stage with a blue scene on air."""
    url = synthetic_url.replace("http", "ws") + "/v1/realtime"
    async with connect(url, max_size=None) as connection:
        controller = Controller(connection)
        await controller.send(type="session.start", on_preview="off", transition="cut")
        created, _ = await controller.until("session.created")
        await controller.send(type="prompt.set", text=BLUE_SCENE)
        await controller.until("prompt.applied")
        yield created["session_id"]


@pytest_asyncio.fixture(loop_scope="session")
async def open_studio(browser: Any, synthetic_url: str) -> AsyncIterator[OpenStudio]:
    """Opens `/studio` + `address` in a context of its own, with the camera allowed unless said otherwise."""
    async with AsyncExitStack() as stack:

        async def open_studio(address: str = "", script: str = "", before: Any = None, **options: Any) -> Studio:
            defaults = {"viewport": {"width": 640, "height": 480}, "locale": "en-US", "permissions": ["camera"]}
            context = await options.pop("browser", browser).new_context(**defaults | options)
            stack.push_async_callback(context.close)
            await context.add_init_script(_PROBE + script)
            studio = Studio(await context.new_page())
            if before is not None:
                await before(studio.page)
            await studio.page.goto(f"{synthetic_url}/studio{address}")
            return studio

        yield open_studio


# --- the compositor, with pictures of its own ------------------------------------------------------------------------

# A blue camera whose left half is red, before a green scene. The mask says that the left half is the person.
_COMPOSE = """
async ({ change, points, cut }) => {
  const { Compositor } = await import("/client/studio/compositor.js");
  const { initialValues } = await import("/client/studio/settings.js");
  const painted = (width, height, colours) => {
    const canvas = new OffscreenCanvas(width, height), brush = canvas.getContext("2d");
    colours.forEach((colour, index) => {
      brush.fillStyle = colour;
      brush.fillRect((index * width) / colours.length, 0, width / colours.length, height);
    });
    return canvas;
  };
  const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
  const compositor = new Compositor(canvas);
  compositor.showScene(painted(160, 90, ["#00c800"]));
  const camera = painted(320, 180, ["#c80000", "#0000c8"]);
  if (cut) {
    const pixels = Uint8Array.from({ length: 64 * 36 }, (_, index) => (index % 64 < 32 ? 255 : 0));
    compositor.holdCamera(camera);
    compositor.showMask({ pixels, width: 64, height: 36, inferenceMs: 0 });
  } else {
    compositor.showCamera(camera);
  }
  compositor.draw({ ...initialValues(), mirror: false, wrap: 0, ...change });
  const copy = painted(320, 180, ["#000"]).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  return points.map(([x, y]) => [...copy.getImageData(x * 320, y * 180, 1, 1).data.slice(0, 3)]);
}
"""
RED, BLUE, GREEN = (200, 0, 0), (0, 0, 200), (0, 200, 0)
LEFT, RIGHT = (0.2, 0.5), (0.8, 0.5)


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Any, synthetic_url: str) -> AsyncIterator[Any]:
    """A page of the server's, without the studio."""
    page = await browser.new_page()
    await page.goto(f"{synthetic_url}/livez")
    yield page
    await page.close()


@pytest.mark.parametrize(
    ("change", "left", "right"),
    [
        ({}, RED, GREEN),
        ({"mirror": True}, GREEN, RED),
        ({"cutOut": False}, RED, BLUE),
        ({"size": 0.5, "x": 0.8}, GREEN, GREEN),  # its left half now lies between 0.55 and 0.8
        ({"size": 0.5, "x": 0.3}, RED, GREEN),
        ({"cropLeft": 0.4}, GREEN, GREEN),
        ({"mirror": True, "cropRight": 0.4}, GREEN, GREEN),  # what is seen at the right is cropped
        ({"opacity": 0}, GREEN, GREEN),
        ({"opacity": 0.5}, (100, 100, 0), GREEN),
        ({"background": "green"}, RED, (0, 177, 64)),
    ],
    ids=str,
)
async def test_the_person_stands_before_the_scene(page: Any, change: dict[str, Any], left: Any, right: Any) -> None:
    colours = await page.evaluate(_COMPOSE, {"change": change, "points": [LEFT, RIGHT], "cut": True})
    assert np.abs(np.subtract(colours, [left, right])).max() <= 3, colours


async def test_the_uncut_camera_is_never_shown_before_a_mask(page: Any) -> None:
    """Before the first mask, and if none will come, the room stays private."""
    colours = await page.evaluate(_COMPOSE, {"change": {}, "points": [LEFT, RIGHT], "cut": False})
    assert colours == [list(GREEN), list(GREEN)]


async def test_the_edge_is_as_soft_and_as_far_out_as_set(page: Any) -> None:
    async def widths(change: dict[str, Any]) -> tuple[int, int]:
        """How many of 100 points across the edge are the person's for more than a half, and how many are mixed."""
        points = [(0.35 + 0.003 * index, 0.5) for index in range(100)]
        colours = np.array(await page.evaluate(_COMPOSE, {"change": change, "points": points, "cut": True}))
        scene = colours[:, 1] / 200
        return int((scene < 0.5).sum()), int(((scene > 0.03) & (scene < 0.97)).sum())

    hard, soft = await widths({"softness": 0}), await widths({"softness": 1})
    assert hard[1] < soft[1]
    assert soft[1] >= 10
    inwards, outwards = await widths({"softness": 1, "shift": -1}), await widths({"softness": 1, "shift": 1})
    assert inwards[0] < soft[0] < outwards[0]


async def test_a_scene_of_another_shape_fills_the_picture_or_is_seen_whole(page: Any) -> None:
    fits = await page.evaluate(
        """async () => {
          const { fitted } = await import("/client/studio/placement.js");
          return [fitted("cover", 2, 1), fitted("contain", 2, 1), fitted("cover", 1, 2), fitted("contain", 1, 2)];
        }"""
    )
    assert fits == [[0.5, 1], [1, 2], [1, 0.5], [2, 1]]


async def test_settings_of_another_version_are_used_as_far_as_they_fit(page: Any) -> None:
    values = await page.evaluate(
        """async () => {
          const { Settings } = await import("/client/studio/settings.js");
          const kept = '{"x": 9, "size": "big", "mirror": 1, "fit": "contain", "old": 3}';
          const storage = { getItem: () => kept, setItem() {} };
          const { x, size, mirror, fit, old } = new Settings(storage, () => {}).values;
          const broken = new Settings({ getItem: () => "{", setItem() {} }, () => {}).values;
          return { x, size, mirror, fit, old: old ?? null, broken: broken.size };
        }"""
    )
    assert values == {"x": 1.5, "size": 1, "mirror": True, "fit": "contain", "old": None, "broken": 1}


async def test_the_segmenter_runs_less_often_on_a_slow_machine(page: Any) -> None:
    rates = await page.evaluate(
        """async () => {
          const { Pace } = await import("/client/studio/pace.js");
          const rateAfter = (tookMs) => {
            const pace = new Pace();
            for (let now = 0; now < 8000; now += 1000) { pace.begin(now); pace.end(now + tookMs); }
            return [pace.rate, pace.isSlow, pace.isDue(7000 + 1000 / pace.rate), pace.isDue(7000 + 900 / pace.rate)];
          };
          return [6, 30, 100, 2000].map(rateAfter);
        }"""
    )
    assert rates == [[30, False, True, True], [20, False, True, False], [6, True, True, False], [4, True, True, False]]


# --- the page --------------------------------------------------------------------------------------------------------


async def test_without_a_person_the_whole_picture_is_the_scene(
    open_studio: OpenStudio, stage: str, tmp_path: Path
) -> None:
    """An empty room: the segmenter loads under the page's policy, and finds nobody in it."""
    async with chromium(showing(empty_room(), tmp_path)) as with_room:
        studio = await open_studio(f"?session={stage}", browser=with_room)
        await studio.scene_is("playing")
        assert share_of_blue(await studio.picture()) > 0.97
        await studio.start()
        await studio.is_cut_out()
        assert share_of_blue(await studio.picture()) > 0.97
        await studio.page.click("#start")
        await studio.camera_is("off")
        assert await studio.page.evaluate("window.cameraTracks.map((track) => track.readyState)") == ["ended"]
        assert studio.errors == []


async def test_a_person_is_cut_out_and_the_output_window_shows_nothing_but_the_picture(
    open_studio: OpenStudio, stage: str, tmp_path: Path
) -> None:
    async with chromium(showing(PERSON.read_bytes(), tmp_path)) as with_person:
        studio = await open_studio(f"?session={stage}", browser=with_person)
        await studio.scene_is("playing")
        await studio.start()
        await studio.is_cut_out()
        picture = await studio.picture()
        # Mirrored: the face is right of the middle, the shuttle's tower in the left upper corner is gone.
        assert is_skin(picture[42:48, 90:96]), picture[45, 93]
        assert share_of_blue(picture[:, :50]) > 0.97

        await studio.page.focus("#picture")
        await studio.page.keyboard.press("m")
        await studio.until("() => !document.querySelector('[name=mirror]').checked")
        async with studio.page.expect_popup() as opened:
            await studio.page.keyboard.press("o")
        output = await opened.value
        await output.wait_for_function("() => document.documentElement.dataset.state === 'live'")
        assert await output.title() == "Sceneshift studio output"
        assert await output.evaluate("[...document.body.children].filter((one) => one.checkVisibility()).length") == 2
        await output.wait_for_function(_PAINTED, arg=[0.44, 0.31], timeout=PATIENCE_MS)

        # Minimised, the studio beats on the output window's screen.
        await studio.page.evaluate(_HIDE)
        await studio.page.evaluate("document.querySelector('[name=background][value=blue]').click()")
        await output.wait_for_function(_IS_BLUE, timeout=PATIENCE_MS)
        assert studio.errors == []


def showing(photograph: bytes, folder: Path) -> str:
    """The argument with which Chromium's camera shows this JPEG."""
    camera = folder / "camera.mjpeg"
    camera.write_bytes(photograph * 2)
    return f"--use-file-for-fake-video-capture={camera}"


def empty_room() -> bytes:
    """Wall, window, desk and floor as JPEG, nothing of them blue.

    In Chromium's own pattern the segmenter takes the disc for a person.
    """
    room = Image.new("RGB", (640, 360), (196, 184, 168))
    brush = ImageDraw.Draw(room)
    brush.rectangle((0, 290, 640, 360), (112, 84, 60))
    brush.rectangle((60, 50, 220, 190), (242, 214, 170), (244, 240, 228), 8)
    brush.rectangle((360, 220, 600, 236), (140, 100, 64))
    for leg in (372, 578):
        brush.rectangle((leg, 236, leg + 10, 320), (120, 86, 54))
    jpeg = io.BytesIO()
    room.save(jpeg, "JPEG", quality=90)
    return jpeg.getvalue()


_PAINTED = """([x, y]) => {
  const canvas = document.querySelector("#picture");
  const [red, green, blue] = canvas.getContext("2d").getImageData(x * canvas.width, y * canvas.height, 1, 1).data;
  return red > green && green > blue;
}"""
_IS_BLUE = """() => {
  const [red, green, blue] = document.querySelector("#picture").getContext("2d").getImageData(5, 5, 1, 1).data;
  return blue > 150 && red < 20;
}"""
_HIDE = """
Object.defineProperty(document, "hidden", { value: true });
document.dispatchEvent(new Event("visibilitychange"));
"""


def share_of_blue(picture: NDArray[np.int16]) -> float:
    """Of the pixels inside the rounded corners and above hint and label."""
    red, green, blue = picture[4:60, 4:-4].transpose(2, 0, 1)
    return float(((blue > red) & (blue > green)).mean())


def is_skin(pixels: NDArray[np.int16]) -> bool:
    red, green, blue = pixels.reshape(-1, 3).mean(axis=0)
    return bool(red > green > blue and red > 120)


async def test_the_person_is_moved_with_pointer_wheel_and_keys_and_a_reload_remembers(open_studio: OpenStudio) -> None:
    studio = await open_studio()
    box = await studio.page.locator("#picture").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    await studio.page.mouse.move(*middle)
    await studio.page.mouse.down()
    await studio.page.mouse.move(middle[0] + box["width"] / 4, middle[1], steps=3)
    await studio.page.mouse.up()
    assert await studio.setting("x") == pytest.approx(0.75, abs=0.01)
    await studio.page.mouse.wheel(0, -100)
    await studio.until("() => JSON.parse(localStorage.getItem('sceneshift.studio')).size > 1.1")
    await studio.page.focus("#picture")
    await studio.page.keyboard.press("Shift+ArrowUp")
    assert await studio.setting("y") == pytest.approx(0.45, abs=0.03)
    await studio.page.keyboard.press("h")
    assert not await studio.page.is_visible("#controls")
    await studio.page.keyboard.press("h")
    await studio.page.reload()
    assert float(await studio.page.input_value("[name=x]")) > 0.7
    await studio.page.click("#reset")
    assert await studio.setting("x") == 0.5
    assert await studio.setting("resolution") == "360", "reset brings the person back, not another output"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("", "was not allowed"),
        (
            "Object.defineProperty(navigator, 'mediaDevices', { value: undefined });"
            "Object.defineProperty(window, 'isSecureContext', { value: false });",
            "open http://localhost:{port}/studio ;",
        ),
        (
            "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotFoundError'); };",
            "no cam",
        ),
        (
            "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotReadableError'); };",
            "holds",
        ),
    ],
    ids=["denied", "insecure", "no camera", "in use"],
)
async def test_it_says_why_there_is_no_camera(
    open_studio: OpenStudio, synthetic_url: str, script: str, says: str
) -> None:
    studio = await open_studio(script=script, permissions=[])
    await studio.page.click("#start")
    await studio.camera_is("failed")
    assert says.format(port=synthetic_url.rsplit(":", 1)[1]) in await studio.problem()
    assert studio.errors == []


async def test_without_webgl_it_says_so(open_studio: OpenStudio) -> None:
    studio = await open_studio(script="HTMLCanvasElement.prototype.getContext = () => null;", locale="zh-CN")
    assert "WebGL2" in await studio.problem()
    assert await studio.page.is_disabled("#start")
    assert studio.errors == []


async def test_without_the_segmenter_the_room_is_not_shown_and_can_be_by_choice(open_studio: OpenStudio) -> None:
    async def no_model(page: Any) -> None:
        await page.context.route("**/*.tflite", lambda route: route.fulfill(status=404))

    studio = await open_studio(before=no_model)
    await studio.start()
    assert "could not be loaded, so the camera is not shown: the model's file: HTTP 404" in await studio.problem()
    assert (await studio.picture())[4:60, 4:-4].max() < 30
    await studio.page.uncheck("[name=cutOut]")
    await studio.until("() => document.querySelector('#problems').children.length === 0")
    await studio.page.wait_for_function(_FRAMES_PASS, arg=2)
    assert (await studio.picture())[4:60, 4:-4].max() > 100, "the whole camera, as chosen"


_FRAMES_PASS = """(count) => new Promise((resolve) => {
  const next = () => (count-- > 0 ? requestAnimationFrame(next) : resolve(true));
  next();
})"""


async def test_an_unknown_stage_is_reported_and_tried_again(open_studio: OpenStudio, stage: str) -> None:
    studio = await open_studio("?session=nobody", locale="zh-CN")
    assert "nobody" in await studio.problem()
    await studio.page.fill("#stage", stage)
    await studio.page.press("#stage", "Enter")
    await studio.scene_is("playing")
    assert studio.page.url.endswith(f"/studio?session={stage}")
    await studio.until("() => document.querySelector('#problems').children.length === 0")


async def test_every_control_has_a_name_and_nothing_scrolls_sideways_on_a_phone(open_studio: OpenStudio) -> None:
    studio = await open_studio(viewport={"width": 360, "height": 700}, locale="zh-CN")
    nameless = await studio.page.eval_on_selector_all(
        "button, input, select, summary, canvas, a",
        """(all) => all.filter((one) => !(one.ariaLabel || one.labels?.length || one.innerText?.trim()))
                       .map((one) => one.outerHTML)""",
    )
    assert nameless == []
    assert await studio.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert studio.errors == []
