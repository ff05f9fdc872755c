"""A world without models and browsers: Python imports this by itself in each process whose path has this folder.

`make check` starts its tests in it (tests/conftest.py), so nothing that needs either can slip in.
"""

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec

# What reads weights, what makes models, what drives browsers. torch alone is arithmetic.
_PACKAGES = ("diffusers", "playwright", "safetensors", "transformers")


class _LeftOut(MetaPathFinder):
    def __init__(self, error: Callable[[str], BaseException]) -> None:
        self._error = error

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname in _PACKAGES:
            raise self._error(f"needs {fullname}: left to `make test`")
        return None


def leave_out(error: Callable[[str], BaseException] = ImportError) -> None:
    """From now on, whoever imports a model or a browser in this process gets this error."""
    sys.meta_path.insert(0, _LeftOut(error))


if __name__ == "sitecustomize":
    leave_out()
