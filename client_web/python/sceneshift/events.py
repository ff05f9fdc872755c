"""The server's events as typed objects, from `sceneshift.protocol`, which is made from the server's own definitions.

`from sceneshift.events import PromptApplied`, and match on the class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from sceneshift.decoding import END_TYPES, KINDS, type_of
from sceneshift.protocol import messages

if TYPE_CHECKING:
    from sceneshift.protocol.messages import *  # noqa: F403

_SAID_BY_CLIENTS = (messages.ClientMessage, *messages.AnyClientMessage.__args__)

__all__ = ["END_TYPES", "KINDS", "type_of"]


def __getattr__(name: str) -> Any:
    """The events by name, and the structs in them (`FrameStamp`, …). Looked up, so that a new one is here at once."""
    found = getattr(messages, name, None)
    if isinstance(found, type) and issubclass(found, msgspec.Struct) and found not in _SAID_BY_CLIENTS:
        return found
    raise AttributeError(f"there is no event {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *(kind.__name__ for kind in KINDS.values())])
