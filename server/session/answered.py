"""Which messages of a session were applied, and how they were answered: so that a retry is applied once.

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

# Event ids that are remembered. A client retries within seconds, and sends a few messages in that time.
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
        """Whether this message was applied already. Raises `Refused` if another one was under the same id."""
        if message.event_id is None or message.event_id not in self._answers:
            return False
        if self._answers[message.event_id].fingerprint != _fingerprint(message):
            reason = f"`{message.event_id}` was the id of another message"
            raise Refused("event_id_conflict", reason, param="event_id")
        return True

    def answer_to(self, message: AnyClientMessage) -> Outgoing | None:
        """What a known message was answered with; None if it needs no answer."""
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
