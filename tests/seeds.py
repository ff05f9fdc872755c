"""Which random cases are tried: SEED (0) is the first, ROUNDS (1) times as many are tried as `make test` needs.

`make test` tries the same ones each time, `.ci/run` a sample that SEED draws, `.ci/long` thousands.
"""

from __future__ import annotations

import os

_FIRST = int(os.environ.get("SEED", "0"))
_ROUNDS = int(os.environ.get("ROUNDS", "1"))


def seeds(num: int) -> range:
    """`num` seeds a round."""
    return range(_FIRST, _FIRST + num * _ROUNDS)
