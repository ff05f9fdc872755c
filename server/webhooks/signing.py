"""Secrets and signatures of Standard Webhooks 1.0.0, as OpenAI's clients and `standardwebhooks` verify them. Pure."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable
from secrets import token_bytes

PREFIX = "whsec_"


def new_secret() -> str:
    return PREFIX + base64.b64encode(token_bytes(32)).decode()


def hint(secret: str) -> str:
    """Tells secrets apart and gives nothing of them away: 4 of 44 characters."""
    return f"{PREFIX}…{secret[-5:]}"


def headers(event_id: str, at: float, body: bytes, secrets: Iterable[str]) -> dict[str, str]:
    """One signature for each secret. `at`: Unix time of this attempt; receivers refuse one of more than 5 minutes."""
    timestamp = str(int(at))
    signed = b".".join((event_id.encode(), timestamp.encode(), body))
    signatures = " ".join(f"v1,{_signature(secret, signed)}" for secret in secrets)
    return {"webhook-id": event_id, "webhook-timestamp": timestamp, "webhook-signature": signatures}


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
