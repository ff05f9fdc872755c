"""What the doors with JSON bodies share: bodies that are checked, numbers of queries, answers, pages of lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from server.protocol.codes import ErrorCode
from server.protocol.errors import Refused

_T = TypeVar("_T")
# What is wrong with a body, from msgspec's words: our code and the field's name.
Explain = Callable[[str], tuple[ErrorCode, str | None]]


async def decoded(
    request: web.Request,
    kind: type[_T],
    *,
    empty: bytes = b"{}",
    explain: Explain = lambda reason: ("invalid_value", None),
) -> _T:
    """The body; `empty` stands for none. Raises `Refused`."""
    try:
        return msgspec.json.decode(await request.read() or empty, type=kind)
    except msgspec.ValidationError as error:
        code, param = explain(str(error))
        raise Refused(code, str(error), param=param) from None
    except msgspec.DecodeError as error:
        raise Refused("invalid_json", f"the body is no JSON: {error}") from None


def number(request: web.Request, name: str, otherwise: int, most: int, *, max_digits: int = 20) -> int:
    """A number of the query, from 1 on. Raises `Refused` (`invalid_value`)."""
    text = request.query.get(name)
    if text is None:
        return otherwise
    if not text.isascii() or not text.isdigit() or len(text) > max_digits or not 1 <= int(text) <= most:
        raise Refused("invalid_value", f"`{name}` must lie in 1..{most}", param=name)
    return int(text)


def answer(body: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")


def page(data: Sequence[dict[str, Any]], *, has_more: bool) -> web.Response:
    """A page of a list, in the shape of OpenAI's API."""
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return answer({"object": "list", "data": data, **ends, "has_more": has_more})
