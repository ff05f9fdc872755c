"""The SDK's pure parts, its size, and its declarations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from server.doors.client_scripts import without_comments

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SDK = Path(__file__).parents[3] / "client_web" / "sdk"


async def test_the_page_gets_the_declarations_that_it_may_fetch(bare: Any) -> None:
    """`deploy/javascript/check.py` has made them from the scripts; a user downloads the folder."""
    names = {path.name for path in (SDK / "types").glob("*.d.ts")}
    assert {"sceneshift.d.ts", "watch.d.ts", "types.d.ts"} <= names
    imported = {
        name
        for path in (SDK / "types").glob("*.d.ts")
        for name in re.findall(r'(?:from |import\()"\./([\w]+)\.js"', path.read_text("utf-8"))
    }
    assert {f"{name}.d.ts" for name in imported} <= names
    status = await bare.page.evaluate("async () => (await fetch('/client/sdk/types/sceneshift.d.ts')).status")
    assert status == 200


async def test_the_sdk_is_small() -> None:
    """In bytes as served: with it the console may load 150 KB of scripts, and the widget 20 KB compressed."""
    served = {path.name: without_comments(path.read_text("utf-8")).encode() for path in SDK.glob("*.js")}
    del served["node.js"]  # no browser loads it
    lazy = len(served.pop("mse.js"))
    always = sum(map(len, served.values()))
    assert always < 45_700 and lazy < 6_500, (always, lazy)


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
          const opened = [];
          globalThis.WebSocket = class { constructor(...how) { opened.push(how.flat()); } };
          for (const [url, token] of [[], ["wss://live.example/v1/realtime"], ["https://live.example/deep/#token=abc"],
                                      ["http://live.example", "x y"]]) {
            const address = new Address(url, token);
            address.openSocket("/v1/realtime");
            told.push([address.http("/a"), opened.pop(), address.token]);
          }
          location.hash = "";
          return told;
        }"""
    )
    origin = bare.page.url.split("/livez")[0]
    own = f"{origin.replace('http', 'ws')}/v1/realtime"
    mine, abc = (["sceneshift.v1", f"sceneshift.token.{token}"] for token in ("mine", "abc"))
    assert told == [
        [f"{origin}/a", [own, *mine], "mine"],
        ["https://live.example/a", ["wss://live.example/v1/realtime"], None],
        ["https://live.example/deep/a", ["wss://live.example/deep/v1/realtime", *abc], "abc"],
        # A subprotocol cannot have a space.
        ["http://live.example/a", ["ws://live.example/v1/realtime?token=x%20y"], "x y"],
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
