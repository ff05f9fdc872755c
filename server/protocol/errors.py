"""The exceptions for refused requests of clients. Pure; every door turns them into answers."""

from __future__ import annotations

import msgspec

from server.protocol.codes import ErrorCode, ErrorDetail, error_detail


class Refused(Exception):
    """A client's request is refused; `detail` is what the client is told."""

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
        """The detail, as the answer to the message with this id."""
        return msgspec.structs.replace(self.detail, event_id=event_id)


class MessageError(Refused):
    """A client's message is invalid."""
