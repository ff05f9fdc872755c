"""The errors between a program and its stage. The class says who is at fault. Pure."""

from __future__ import annotations

from sceneshift.protocol.codes import ErrorDetail
from sceneshift.protocol.messages import ServerMessage


class SceneshiftError(Exception):
    """The base of all errors here."""


class Refused(SceneshiftError):
    """The server refused a request; `code` is one of docs/protocol.md, `param` the field that is wrong."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.param = param
        self.retryable = retryable
        self.retry_after_s = retry_after_s

    @classmethod
    def by(cls, detail: ErrorDetail) -> Refused:
        """From the server's error object."""
        after_s = None if detail.retry_after_ms is None else detail.retry_after_ms / 1000
        return cls(detail.code, detail.message, param=detail.param, retryable=detail.retryable, retry_after_s=after_s)


class NotShown(SceneshiftError):
    """The prompt ended without a picture; `end` is the event that says why (`prompt.superseded`, …)."""

    def __init__(self, end: ServerMessage) -> None:
        error = getattr(end, "error", None)
        kind = str(end.__struct_config__.tag)
        super().__init__(kind if error is None else f"{kind}: {error.message}")
        self.end = end


class SessionLost(SceneshiftError):
    """The session ended, or the server no longer knows it, before there was an answer."""


class Unreachable(SceneshiftError, ConnectionError):
    """No Sceneshift server answers at the address."""
