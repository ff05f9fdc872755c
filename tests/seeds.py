"""The seeds of random cases: SEED (0) is the first; ROUNDS (1) multiplies the number of cases of `make test`.

`make test` tries the same cases each time, `.ci/run` a sample that SEED draws, `.ci/long` thousands.
"""

from __future__ import annotations

import os

_FIRST = int(os.environ.get("SEED", "0"))
_ROUNDS = int(os.environ.get("ROUNDS", "1"))


def seeds(num: int) -> range:
    """`num` seeds for each round."""
    return range(_FIRST, _FIRST + num * _ROUNDS)
