"""The SDK's pure parts, and whether its declarations tell the truth."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SDK = Path(__file__).parents[3] / "client_web" / "sdk"


def members(declaration: str) -> set[str]:
    """The names of what a class or interface of a `.d.ts` declares."""
    names = re.findall(r"^  (?:readonly )?(\w+)\??[:(<]", declaration, re.M)
    return set(names) - {"constructor"}


def declared() -> dict[str, set[str]]:
    """What `sceneshift.d.ts` says is exported, with the members of the classes."""
    text = (SDK / "sceneshift.d.ts").read_text()
    values = {name: set[str]() for name in re.findall(r"^export declare function (\w+)", text, re.M)}
    classes = re.findall(r"^export declare class (\w+) extends (\w+)[^{]*\{\n(.*?)^\}", text, re.M | re.S)
    for name, base, body in classes:
        values[name] = members(body) | ({"on"} if base == "Emitter" else set())
    return values


async def test_the_declarations_name_what_the_modules_export(bare: Any) -> None:
    """Methods and getters of the prototypes, and the fields of a real object of each class."""
    exported = await bare.page.evaluate(
        """async () => {
          const sdk = await import("/client/sdk/sceneshift.js");
          const namesOf = (object) => {
            const names = new Set(Object.keys(object));
            let kind = Object.getPrototypeOf(object);
            for (; ![Object, Error].includes(kind.constructor); kind = Object.getPrototypeOf(kind)) {
              Object.getOwnPropertyNames(kind).forEach((name) => names.add(name));
            }
            return [...names].filter((name) => name !== "constructor" && name !== "name");
          };
          const session = await sdk.connect(null, { video: document.querySelector("video") });
          const detail = { code: "c", message: "m", param: null };
          const objects = {
            Session: session,
            Viewer: session.viewer,
            PromptHandle: session.prompt("scene 5"),
            SceneshiftError: new sdk.SceneshiftError("c", "m"),
            RequestError: new sdk.RequestError(detail),
          };
          return Object.fromEntries(Object.keys(sdk).map((key) => [key, objects[key] ? namesOf(objects[key]) : []]));
        }"""
    )
    named = declared()
    named["RequestError"] |= named["SceneshiftError"]
    assert {name: set(names) for name, names in exported.items()} == named
    watching = set(await bare.page.evaluate("async () => Object.keys(await import('/client/sdk/watch.js'))"))
    text = (SDK / "watch.d.ts").read_text()
    again = re.search(r"^export \{ (.*) \}", text, re.M)
    assert again is not None
    assert watching == set(again[1].split(", ")) | set(re.findall(r"^export declare function (\w+)", text, re.M))


async def test_the_sdk_is_small() -> None:
    """The console may load 150 KB of scripts, the widget 20 KB compressed, both with what they use of the SDK."""
    scripts = {path.name: path.read_bytes() for path in SDK.glob("*.js")}
    lazy = len(scripts.pop("mse.js"))
    always = sum(map(len, scripts.values()))
    assert always < 60_000 and lazy < 8_000, (always, lazy)
    console = [
        "connection.js",
        "messages.js",
        "player.js",
        "rtc.js",
        "errors.js",
        "emitter.js",
        "states.js",
        "glass.js",
    ]
    assert sum(len(scripts[name]) for name in console) < 38_000


async def test_waits_grow_and_are_random(bare: Any) -> None:
    waits = await bare.page.evaluate(
        """async () => {
          const { Backoff } = await import("/client/sdk/states.js");
          const waits = [1, 0.5].map((random) => {
            const backoff = new Backoff(() => random);
            return [1, 2, 3, 4, 5, 6, 7].map(() => backoff.next());
          });
          return waits;
        }"""
    )
    assert waits[0] == [250, 500, 1000, 2000, 4000, 8000, 8000]
    assert waits[1] == [wait / 2 for wait in waits[0]]


async def test_addresses_and_tokens(bare: Any) -> None:
    told = await bare.page.evaluate(
        """async () => {
          const { Address } = await import("/client/sdk/address.js");
          location.hash = "token=mine";
          const told = [];
          for (const [url, token] of [[], ["wss://live.example/v1/realtime"], ["https://live.example/deep/#token=abc"],
                                      ["http://live.example", "x y"]]) {
            const address = new Address(url, token);
            told.push([address.http("/a"), address.socket("/v1/realtime"), address.token]);
          }
          location.hash = "";
          return told;
        }"""
    )
    origin = bare.page.url.split("/livez")[0]
    assert told == [
        [f"{origin}/a", f"{origin.replace('http', 'ws')}/v1/realtime?token=mine", "mine"],
        ["https://live.example/a", "wss://live.example/v1/realtime", None],
        ["https://live.example/deep/a", "wss://live.example/deep/v1/realtime?token=abc", "abc"],
        ["http://live.example/a", "ws://live.example/v1/realtime?token=x+y", "x y"],
    ]


async def test_ice_servers_of_a_link_header(bare: Any) -> None:
    servers = await bare.page.evaluate(
        """async () => {
          const { iceServers } = await import("/client/sdk/whep.js");
          return iceServers('<stun:a.example>; rel="ice-server", <https://x>; rel="next", ' +
            '<turn:b.example:3478?transport=udp>; rel=ice-server; username="1700:u, \\\\"v\\\\""; credential="c=d;"');
        }"""
    )
    assert servers == [
        {"urls": ["stun:a.example"]},
        {"urls": ["turn:b.example:3478?transport=udp"], "username": '1700:u, "v"', "credential": "c=d;"},
    ]
