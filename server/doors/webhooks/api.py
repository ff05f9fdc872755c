"""The routes of webhooks: a key's holder makes, changes, tests and deletes endpoints, and sees what was delivered.

In the shape of OpenAI's API, whose SDKs drive it; `deliveries` and `retry` are ours. Endpoints belong to the key that
made them. On the event loop, behind the middleware of `http_api.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, TypeVar

from aiohttp import web
from msgspec import Meta, Struct

from server.doors import json_http
from server.doors.access.client_secrets import Identity
from server.doors.access.gate import Gate, door_of
from server.protocol.codes import ErrorCode
from server.protocol.errors import Refused
from server.store.store import Store
from server.webhooks import rows, signing
from server.webhooks.courier import Courier
from server.webhooks.rows import MAX_ENDPOINTS, Delivery, Endpoint, EventType
from server.webhooks.sender import Forbidden, Sender

PATH = "/v1/webhook_endpoints"
DEFAULT_PAGE, MAX_PAGE = 20, 100

_Name = Annotated[str, Meta(min_length=1, max_length=100)]
_Types = Annotated[tuple[EventType, ...], Meta(min_length=1)]
_T = TypeVar("_T")


class EndpointRequest(Struct, frozen=True, forbid_unknown_fields=True):
    name: _Name
    url: str
    event_types: _Types


class EndpointChange(Struct, frozen=True, forbid_unknown_fields=True):
    """None leaves a field as it is."""

    name: _Name | None = None
    url: str | None = None
    event_types: _Types | None = None


class RotateRequest(Struct, frozen=True, forbid_unknown_fields=True):
    keep_old_secret_active_for_24_hours: bool = False


class SampleRequest(Struct, frozen=True, forbid_unknown_fields=True):
    event_type: EventType


class WebhooksApi:
    def __init__(
        self, gate: Gate, store: Store, courier: Courier, sender: Sender, wall_time: Callable[[], float]
    ) -> None:
        self._gate = gate
        self._store = store
        self._courier = courier
        self._sender = sender
        self._wall_time = wall_time
        self._asking: set[str] = set()  # tenants for whom somebody else's server is asked

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/v1/webhook_event_types", self._event_types)
        router.add_post(PATH, self._create)
        router.add_get(PATH, self._list)
        router.add_get(PATH + "/{endpoint_id}", self._retrieve)
        router.add_post(PATH + "/{endpoint_id}", self._update)
        router.add_delete(PATH + "/{endpoint_id}", self._delete)
        router.add_post(PATH + "/{endpoint_id}/rotate_secret", self._rotate)
        router.add_post(PATH + "/{endpoint_id}/test", self._test)
        router.add_get(PATH + "/{endpoint_id}/deliveries", self._deliveries)
        router.add_post(PATH + "/{endpoint_id}/deliveries/{delivery_id}/retry", self._retry)

    def _admit(self, request: web.Request) -> Identity:
        """A secret in a page must not send a customer's events elsewhere. Raises `Refused`."""
        return self._gate.admit_key(request, "prompt", "")

    # --- endpoints ------------------------------------------------------------------------------------------------

    async def _event_types(self, request: web.Request) -> web.StreamResponse:
        self._admit(request)
        return json_http.answer({"object": "list", "data": rows.EVENT_TYPES})

    async def _create(self, request: web.Request) -> web.StreamResponse:
        identity = self._admit(request)
        asked = await json_http.decoded(request, EndpointRequest, explain=_explain)
        await self._check(asked.url, identity)
        add = partial(
            rows.add_endpoint,
            tenant=identity.tenant,
            name=asked.name,
            url=asked.url,
            event_types=asked.event_types,
            secret=signing.new_secret(),
            now=self._wall_time(),
        )
        endpoint = await self._store.ask(add)
        if endpoint is None:
            raise Refused("too_many_webhooks", f"this key has {MAX_ENDPOINTS} endpoints, the most; delete one")
        self._gate.note(request, identity, f"{door_of(request)} {endpoint.id}")
        return json_http.answer(_listed(endpoint) | {"signing_secret": endpoint.secret})

    async def _list(self, request: web.Request) -> web.StreamResponse:
        identity = self._admit(request)
        limit, after = _page(request)
        before = (await self._found(after, identity, param="after")).number if after is not None else None
        found = await self._store.ask(partial(rows.endpoints, tenant=identity.tenant, before=before, limit=limit + 1))
        return json_http.page([_listed(endpoint) for endpoint in found[:limit]], has_more=len(found) > limit)

    async def _retrieve(self, request: web.Request) -> web.StreamResponse:
        return json_http.answer(_listed(await self._endpoint(request, self._admit(request))))

    async def _update(self, request: web.Request) -> web.StreamResponse:
        """One that was disabled gets new events again."""
        identity = self._admit(request)
        endpoint = await self._endpoint(request, identity)
        asked = await json_http.decoded(request, EndpointChange, explain=_explain)
        if asked.url is not None:
            await self._check(asked.url, identity)
        change = partial(
            rows.change_endpoint,
            endpoint_id=endpoint.id,
            name=asked.name,
            url=asked.url,
            event_types=asked.event_types,
            now=self._wall_time(),
        )
        await self._store.ask(change)
        self._gate.note(request, identity, f"{door_of(request)} {endpoint.id}")
        return json_http.answer(_listed(await self._endpoint(request, identity)))

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        identity = self._admit(request)
        endpoint = await self._endpoint(request, identity)
        await self._store.ask(partial(rows.delete_endpoint, endpoint_id=endpoint.id))
        self._gate.note(request, identity, f"{door_of(request)} {endpoint.id}")
        return json_http.answer({"id": endpoint.id, "object": "webhook_endpoint.deleted", "deleted": True})

    async def _rotate(self, request: web.Request) -> web.StreamResponse:
        identity = self._admit(request)
        endpoint = await self._endpoint(request, identity)
        asked = await json_http.decoded(request, RotateRequest, explain=_explain)
        rotate = partial(
            rows.rotate_secret,
            endpoint_id=endpoint.id,
            secret=signing.new_secret(),
            keeps_old=asked.keep_old_secret_active_for_24_hours,
            now=self._wall_time(),
        )
        await self._store.ask(rotate)
        self._gate.note(request, identity, f"{door_of(request)} {endpoint.id}")
        endpoint = await self._endpoint(request, identity)
        return json_http.answer(_listed(endpoint) | {"signing_secret": endpoint.secret})

    async def _test(self, request: web.Request) -> web.StreamResponse:
        """Sends a sample at once."""
        identity = self._admit(request)
        endpoint = await self._endpoint(request, identity)
        asked = await json_http.decoded(request, SampleRequest, explain=_explain)
        with self._one_at_a_time(identity):
            answer = await self._courier.send_sample(endpoint, asked.event_type)
        if answer.status_code is None:
            raise Refused("webhook_unreachable", f"no answer came: {answer.error}", param="url")
        return json_http.answer(
            {
                "object": "webhook_endpoint.test",
                "webhook_endpoint_id": endpoint.id,
                "event_type": asked.event_type,
                "status_code": answer.status_code,
                "success": True,  # of the request, as OpenAI has it
            }
        )

    # --- deliveries -----------------------------------------------------------------------------------------------

    async def _deliveries(self, request: web.Request) -> web.StreamResponse:
        endpoint = await self._endpoint(request, self._admit(request))
        limit, after = _page(request)
        before = (await self._delivery(endpoint, after, param="after")).number if after is not None else None
        found = await self._store.ask(partial(rows.deliveries, endpoint_id=endpoint.id, before=before, limit=limit + 1))
        return json_http.page([_told(delivery) for delivery in found[:limit]], has_more=len(found) > limit)

    async def _retry(self, request: web.Request) -> web.StreamResponse:
        """Also one that was delivered: the receiver may have lost it."""
        endpoint = await self._endpoint(request, self._admit(request))
        delivery = await self._delivery(endpoint, request.match_info["delivery_id"])
        if endpoint.disabled_at is not None:
            raise Refused("not_ready", "this endpoint answered 410 and is disabled; an update enables it again")
        await self._store.ask(partial(rows.send_again, delivery_id=delivery.id, now=self._wall_time()))
        return json_http.answer(_told(await self._delivery(endpoint, delivery.id)))

    # --- what is asked --------------------------------------------------------------------------------------------

    @contextmanager
    def _one_at_a_time(self, identity: Identity) -> Iterator[None]:
        """A key asks one name server or receiver at a time: it is no means for a flood. Raises `Refused`."""
        if identity.tenant in self._asking:
            raise Refused("rate_limited", "another test or change of this key is under way", retry_after_ms=1000)
        self._asking.add(identity.tenant)
        try:
            yield
        finally:
            self._asking.discard(identity.tenant)

    async def _check(self, url: str, identity: Identity) -> None:
        """Raises `Refused`."""
        fault = self._sender.fault_of(url)
        if fault is not None:
            raise Refused("invalid_value", fault, param="url")
        try:
            with self._one_at_a_time(identity):
                await self._sender.check(url)
        except Forbidden as forbidden:
            raise Refused("invalid_value", f"`url`: {forbidden}", param="url") from None
        except (OSError, UnicodeError):
            raise Refused("invalid_value", "`url`: its host's name cannot be resolved", param="url") from None

    async def _endpoint(self, request: web.Request, identity: Identity) -> Endpoint:
        return await self._found(request.match_info["endpoint_id"], identity)

    async def _found(self, endpoint_id: str, identity: Identity, *, param: str | None = None) -> Endpoint:
        """Raises `Refused`. Another tenant's endpoint looks like none."""
        find = partial(rows.find_endpoint, endpoint_id=endpoint_id, tenant=identity.tenant)
        endpoint: Endpoint | None = await self._store.ask(find)
        if endpoint is None:
            raise Refused("unknown_webhook", "this key has no webhook endpoint with this id", param=param)
        return endpoint

    async def _delivery(self, endpoint: Endpoint, delivery_id: str, *, param: str | None = None) -> Delivery:
        """Raises `Refused`."""
        find = partial(rows.find_delivery, endpoint_id=endpoint.id, delivery_id=delivery_id)
        delivery: Delivery | None = await self._store.ask(find)
        if delivery is None:
            raise Refused("unknown_webhook", "this endpoint has no delivery with this id", param=param)
        return delivery


def _explain(reason: str) -> tuple[ErrorCode, str | None]:
    found = re.search(r"\$\.(\w+)", reason) or re.search(r"field `(\w+)`", reason)
    code: ErrorCode = "wrong_type"
    if "unknown field" in reason:
        code = "unknown_field"
    elif "missing required field" in reason:
        code = "missing_field"
    elif "enum value" in reason or "length" in reason:
        code = "invalid_value"
    return code, found[1] if found else None


def _page(request: web.Request) -> tuple[int, str | None]:
    """`limit` and `after` of a list. Raises `Refused`."""
    return json_http.number(request, "limit", DEFAULT_PAGE, MAX_PAGE, max_digits=4), request.query.get("after")


def _listed(endpoint: Endpoint) -> dict[str, Any]:
    """OpenAI's object, and whether it is disabled."""
    return {
        "id": endpoint.id,
        "object": "webhook_endpoint",
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": endpoint.event_types,
        "signing_secret_hint": signing.hint(endpoint.secret),
        "created_at": int(endpoint.created_at),
        "updated_at": int(endpoint.updated_at),
        "disabled_at": int(endpoint.disabled_at) if endpoint.disabled_at is not None else None,
    }


def _told(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "object": "webhook_endpoint.delivery",
        "webhook_endpoint_id": delivery.endpoint_id,
        "event_id": delivery.event_id,
        "event_type": delivery.event_type,
        "video_id": delivery.video_id,
        "created_at": int(delivery.event_at),
        "status": delivery.status,
        "attempts": delivery.attempts,
        "status_code": delivery.status_code,
        "error": delivery.error,
        "last_try_at": int(delivery.last_try_at) if delivery.last_try_at is not None else None,
        "next_try_at": int(delivery.next_try_at) if delivery.next_try_at is not None else None,
    }
