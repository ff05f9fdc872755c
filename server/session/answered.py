"""Remembers a session's recent messages and their answers, so that a retry is not applied twice.

Owned by `receipts.py`; pure, on the event loop.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from server.protocol.errors import Refused
from server.protocol.messages import AnyClientMessage
from server.session.limits import Outgoing

# How many event ids are remembered. A client retries within seconds, and sends a few messages in that time.
MAX_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class _Answer:
    fingerprint: bytes
    outgoing: Outgoing | None


class AnsweredMessages:
    """The last `MAX_REMEMBERED` messages that had an `event_id`; the oldest is forgotten first."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, _Answer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def knows(self, message: AnyClientMessage) -> bool:
        """Whether this message was applied already. Raises `Refused` if its id belongs to a different message."""
        if message.event_id is None or message.event_id not in self._answers:
            return False
        if self._answers[message.event_id].fingerprint != _fingerprint(message):
            reason = f"`{message.event_id}` was the id of another message"
            raise Refused("event_id_conflict", reason, param="event_id")
        return True

    def answer_to(self, message: AnyClientMessage) -> Outgoing | None:
        """The answer that a known message got; None if it needs none."""
        return self._answers[message.event_id or ""].outgoing

    def remember(self, message: AnyClientMessage, outgoing: Outgoing | None) -> None:
        """The first answer counts; messages without an id are not remembered."""
        if message.event_id is None or message.event_id in self._answers:
            return
        self._answers[message.event_id] = _Answer(_fingerprint(message), outgoing)
        if len(self._answers) > MAX_REMEMBERED:
            self._answers.popitem(last=False)


def _fingerprint(message: AnyClientMessage) -> bytes:
    # A hash, since an offer may have 256 KiB.
    return hashlib.blake2b(msgspec.json.encode(message), digest_size=16).digest()
