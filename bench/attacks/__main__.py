"""`python -m bench.attacks NAME URL`: one attack on a server of yours, in this process. Prints what it got, as JSON.

`sceneshift bench hostile` runs all of them, each beside a show. The show's token comes by `ATTACKED_TOKEN`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from dataclasses import asdict

from bench.attacks.attacker import ATTACK_S, Attacker, client, counting
from bench.attacks.table import ATTACKS

TOKEN_VARIABLE = "ATTACKED_TOKEN"


async def run(name: str, url: str, seconds: float) -> dict[str, object]:
    attack, token = ATTACKS[name], os.environ.get(TOKEN_VARIABLE, "")
    with counting() as sent:
        async with client(url, None if attack.is_stranger else token) as http:
            attacker = Attacker(http, url, token, is_stranger=attack.is_stranger, seconds=seconds)
            outcome = await attack.run(attacker)
    return asdict(outcome) | {"num_bytes": sent.num_bytes}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description=__doc__)
    parser.add_argument("name", choices=list(ATTACKS))
    parser.add_argument("url", help="http://HOST:PORT")
    parser.add_argument("--seconds", type=float, default=ATTACK_S)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(run(arguments.name, arguments.url, arguments.seconds))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
