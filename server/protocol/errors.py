"""What is raised for a client that does not get what it asked for. Pure; every door turns it into an answer."""

from __future__ import annotations

import msgspec

from server.protocol.codes import ErrorCode, ErrorDetail, error_detail


class Refused(Exception):
    """What a client asked for and does not get; `detail` is what it is told."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        param: str | None = None,
        event_id: str | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.detail = error_detail(code, message, param=param, event_id=event_id, retry_after_ms=retry_after_ms)

    def answer_to(self, event_id: str | None) -> ErrorDetail:
        """The detail, as the answer to the message of this id."""
        return msgspec.structs.replace(self.detail, event_id=event_id)


class MessageError(Refused):
    """A client's message that cannot be taken."""
