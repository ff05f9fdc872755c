"""`python -m examples.education_bot --server http://127.0.0.1:8080`: serves the chat page."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from contextlib import AsyncExitStack

import aiohttp
from aiohttp import web

from examples.education_bot.app import MAX_PAGES, Bot
from examples.education_bot.language_model import LanguageModel
from sceneshift.address import Address


async def serve(options: argparse.Namespace) -> None:
    """Serves until it is cancelled. Raises `OSError`, `ValueError`."""
    server = Address.of(options.server, None, os.environ)
    async with AsyncExitStack() as stack:
        model = None
        if options.llm_url:
            http = await stack.enter_async_context(aiohttp.ClientSession())
            key = os.environ.get("OPENAI_API_KEY")
            model = LanguageModel(http, options.llm_url, options.llm_model, key, timeout_s=options.llm_timeout)
        names = [name.strip() for name in options.allowed_hosts.split(",") if name.strip()]
        bot = Bot(server, language_model=model, max_pages=options.max_pages, host=options.host, allowed_hosts=names)
        runner = web.AppRunner(bot.application(), access_log=None, shutdown_timeout=2.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, options.host, options.port).start()
        print(f"education bot: http://{options.host}:{runner.addresses[0][1]}/", flush=True)
        await asyncio.Event().wait()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m examples.education_bot",
        description=__doc__,
        epilog="The language model's key is taken from OPENAI_API_KEY.",
    )
    parser.add_argument(
        "--server", help="the Sceneshift server, with #token=… (default: this machine, and its own token)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="where the page is served")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--allowed-hosts", default="", metavar="NAMES", help="behind a proxy: its names, with commas")
    parser.add_argument("--max-pages", type=int, default=MAX_PAGES, help="how many may be open at once, a stage each")
    parser.add_argument("--llm-url", help="an OpenAI-compatible language model, as http://127.0.0.1:11434/v1")
    parser.add_argument("--llm-model", default="gpt-4o-mini", help="its name there")
    parser.add_argument("--llm-timeout", type=float, default=15.0, metavar="SECONDS")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        asyncio.run(serve(options))
    except KeyboardInterrupt:
        return 0
    except (OSError, ValueError) as error:
        print(f"education_bot: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
