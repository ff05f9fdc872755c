"""The SDK in a real browser, on a real server: sessions, prompts and their ends, cuts and restarts."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest
from stages import number_in, picture

from bench.parts.served import served
from engine.synthetic import Script, SyntheticEngine
from server import app as server_app
from server.config import Settings

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_a_prompt_is_accepted_previewed_and_seen_at_the_glass(open_bare: Any) -> None:
    """The engine decodes the clip when the preview was seen, so that no busy browser can present both as one frame."""
    script, was_seen = Script(decode_s=0.03), asyncio.Event()

    async def sleep(seconds: float) -> None:
        await (was_seen.wait() if seconds == script.decode_s else asyncio.sleep(seconds))

    app = server_app.build(Settings(), SyntheticEngine(script, sleep=sleep))
    async with server_app.running(app, server_app.listen("127.0.0.1", 0)) as port:
        bare = await open_bare(f"http://127.0.0.1:{port}")
        await bare.page.expose_function("previewWasSeen", was_seen.set)
        seen = await bare.run(
            """async ({ connect, video }) => {
              const session = await connect(null, { video, options: { transition: "cut" } });
              await new Promise((resolve) => session.viewer.on("frame", resolve));
              const handle = session.prompt("scene 5", { seed: 7 });
              const pictures = [];
              handle.on("prompt.preview", ({ picture }) => picture && pictures.push(picture));
              const { seed } = await handle.accepted;
              const preview = await handle.preview;
              await previewWasSeen();
              const picture = await handle.picture;
              return { seed, preview, picture, end: await handle.ended, pictures, state: handle.state,
                       onAir: session.program, promptId: handle.promptId };
            }"""
        )
        await bare.shows_number(5)
    assert (seen["seed"], seen["end"], seen["state"]) == (7, "applied", "applied")
    assert len(seen["pictures"]) >= 2 and seen["pictures"][0].startswith("data:image/jpeg")
    assert seen["preview"]["frame"]["frame_index"] < seen["picture"]["frame"]["frame_index"]
    assert 0 < seen["preview"]["glassMs"] < seen["picture"]["glassMs"]
    assert seen["picture"]["timings"]["total_ms"] > 0
    assert seen["onAir"] == {"on_air": "clip", "prompt_id": seen["promptId"]}


async def test_of_a_burst_the_last_is_made_and_most_are_never_sent(bare: Any) -> None:
    prompts = await bare.run(
        """async ({ connect }) => {
          const session = await connect(location.origin, { options: { take: "manual" } });
          const handles = [1, 2, 3, 4, 5, 6].map((number) => session.prompt(`scene ${number}`));
          handles.at(-1).on("prompt.ready", () => session.take());
          return Promise.all(handles.map(async (handle) => {
            const isSent = (await handle.accepted) !== null;
            const end = await handle.ended;
            return { end, isSent, by: handles.findIndex(({ promptId }) => promptId === handle.supersededBy) };
          }));
        }"""
    )
    assert [prompt["end"] for prompt in prompts] == ["superseded"] * 5 + ["applied"]
    assert [prompt["isSent"] for prompt in prompts] == [True, False, False, False, False, True]
    assert [prompt["by"] for prompt in prompts] == [5, 2, 3, 4, 5, -1]


async def test_prompts_are_cancelled_whether_sent_or_not(bare: Any) -> None:
    ends = await bare.run(
        """async ({ connect }) => {
          const session = await connect(null, { options: { take: "manual" } });
          const sent = session.prompt("scene 5");
          await new Promise((resolve) => sent.on("prompt.ready", resolve));
          const held = [session.prompt("scene 6"), session.prompt("scene 7")][1];
          const ends = { held: await held.cancel(), wasSent: await held.accepted };
          return { ...ends, sent: await session.prompt("scene 8").cancel() };
        }"""
    )
    assert ends == {"held": "cancelled", "wasSent": None, "sent": "cancelled"}


async def test_a_manual_take_blank_and_update_are_answered(bare: Any) -> None:
    said = await bare.run(
        """async ({ connect }) => {
          const session = await connect(null, { options: { take: "manual", on_preview: "controller" } });
          const handle = session.prompt("scene 5");
          await new Promise((resolve) => handle.on("prompt.ready", resolve));
          const said = [(await session.take({ transition: "cut" })).on_air, await handle.ended];
          await session.blank();
          said.push(session.program.on_air);
          await session.resume();
          said.push(session.program.on_air);
          await session.update({ quality: "fine" });
          said.push(session.options.quality, (await session.close()).reason, session.state);
          said.push(await session.prompt("scene 6").ended);
          return said;
        }"""
    )
    assert said == ["clip", "applied", "blank", "clip", "fine", "client", "closed", "rejected"]


async def test_errors_name_their_code_and_field(bare: Any) -> None:
    errors = await bare.run(
        """async ({ connect, RequestError, SceneshiftError }) => {
          const named = ({ code, param }) => [code, param];
          const errors = [];
          const session = await connect();
          for (const [text, options] of [["", {}], ["sea", { colour: "red" }], ["sea", { transition_s: 99 }]]) {
            const handle = session.prompt(text, options);
            errors.push([await handle.ended, await handle.picture, ...named(handle.error)]);
          }
          errors.push(await session.take().catch((error) => [error instanceof RequestError, ...named(error)]));
          errors.push(await connect(null, { options: { width: 7 } }).catch(named));
          await session.close();
          errors.push(await session.blank().catch((error) => [error instanceof SceneshiftError, ...named(error)]));
          return errors;
        }"""
    )
    assert errors == [
        ["rejected", None, "prompt_empty", "text"],
        ["rejected", None, "unknown_field", "colour"],
        ["rejected", None, "invalid_value", "transition_s"],
        [True, "nothing_to_take", None],
        ["invalid_value", "width"],
        [True, "no_connection", None],
    ]


async def test_after_a_cut_the_session_continues_and_lost_messages_are_resent(bare: Any) -> None:
    said: list[dict[str, Any]] = []

    def swallow_first_prompt(route: Any) -> None:
        """The network takes the first prompt and then breaks."""
        server = route.connect_to_server()

        async def from_page(text: str) -> None:
            message = json.loads(text)
            said.append(message)
            if message["type"] == "prompt.set" and sum(one["type"] == "prompt.set" for one in said) == 1:
                await route.close(code=3001, reason="cut by the test")
            else:
                server.send(text)

        route.on_message(from_page)

    await bare.page.route_web_socket("**/v1/realtime*", swallow_first_prompt)
    seen = await bare.run(
        """async ({ connect, video }) => {
          const states = [], sessions = [];
          const on = { state: (state) => states.push(state), session: ({ isResumed }) => sessions.push(isResumed) };
          const session = await connect(null, { video, on, random: () => 0.1 });
          const id = session.id;
          await new Promise((resolve) => session.viewer.on("frame", resolve));
          const handle = session.prompt("scene 5");
          await handle.picture;
          return { states, sessions, isSame: session.id === id, end: await handle.ended };
        }"""
    )
    assert seen == {
        "states": ["live", "reconnecting", "live"],
        "sessions": [False, True],
        "isSame": True,
        "end": "applied",
    }
    prompts = [message for message in said if message["type"] == "prompt.set"]
    assert len(prompts) == 2 and prompts[0] == prompts[1], "the same event_id, or it would be another prompt"
    await bare.shows_number(5)
    assert await bare.page.evaluate("() => window.peersMade") == 1, "the picture did not need the cut socket"


async def test_the_stage_comes_back_after_a_restart_of_the_server(open_bare: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    arguments = ["--engine", "synthetic", "--port", port]
    async with served(arguments) as server:
        bare = await open_bare(server.url)
        await bare.run(
            """async ({ connect, video }) => {
              window.sessions = [];
              const options = { transition: "cut" };
              window.session = await connect(null, { video, name: "my-show", options, random: () => 0.1 });
              session.on("session", (event) => sessions.push([session.id, event.isResumed]));
              await session.prompt("scene 5").picture;
            }"""
        )
        await bare.shows_number(5)
    await bare.until("() => session.state === 'reconnecting'")
    await bare.run("async () => { window.handle = session.prompt('scene 9'); }")
    assert await bare.page.evaluate("() => handle.state") == "waiting"
    assert number_in(picture(await bare.page.locator("video").screenshot())) == 5, "held meanwhile"
    async with served(arguments):
        await bare.until("() => handle.state === 'applied'")
        await bare.shows_number(9)
        assert await bare.page.evaluate("() => window.sessions") == [["my-show", False]], "another one of the same name"


async def test_the_next_page_takes_over_the_session(bare: Any) -> None:
    ids = await bare.run(
        """async ({ connect }) => {
          const first = await connect();
          const resume = { ...first.resumable };
          const second = await connect(null, { resume });
          await new Promise((resolve) => first.on("state", resolve));
          await first.close();
          return [first.id, second.id];
        }"""
    )
    assert ids[0] == ids[1]


async def test_a_refused_token_ends_the_attempt(open_bare: Any) -> None:
    async with served(
        ["--engine", "synthetic", "--token", "the-right-token-of-this-test-here"], is_ready=False
    ) as server:
        bare = await open_bare(server.url)
        told = await bare.run(
            """async ({ connect }) => {
              const session = await connect(`${location.origin}#token=the-right-token-of-this-test-here`);
              return [session.state, await connect(location.origin, { token: "wrong" }).catch(({ code }) => code)];
            }"""
        )
    assert told == ["live", "unauthorized"]
