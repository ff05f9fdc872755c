"""The routes of `/v1/videos`: order, ask, list, delete and fetch clips. On the event loop.

OpenAI's clients poll; `openai-poll-after-ms` tells them when. Behind the middleware of `http_api.py`.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from engine.api import Engine, Estimate, Generate, ModelDescription, Quality
from server.clips import rows
from server.clips.folder import SPRITESHEET, THUMBNAIL, VIDEO
from server.clips.job import ClipError, Failure, Job
from server.clips.queue import DUE_IN_S, ClipQueue
from server.doors import json_http
from server.doors.access.client_secrets import Identity
from server.doors.access.gate import Gate, door_of
from server.doors.videos import wishes
from server.doors.videos.wishes import Ordered
from server.protocol.errors import Refused
from server.store.store import Store

PATH = "/v1/videos"
MAX_UPLOAD_BYTES = 12 * 1024 * 1024
MAX_FIELDS = 64
MAX_FIELD_BYTES = 64 * 1024
DEFAULT_PAGE, MAX_PAGE = 20, 100
MAX_SEARCH_CHARACTERS = 200
MAX_FILE_NAME = 100
LINK_LIVES_S = 3600
MIN_POLL_MS, MAX_POLL_MS = 250, 5000
_VARIANTS = {
    "video": (VIDEO, "video/mp4"),
    "thumbnail": (THUMBNAIL, "image/webp"),
    "spritesheet": (SPRITESHEET, "image/jpeg"),
}
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Foresight:
    """Places in the queue by id, and what one clip of each quality takes."""

    positions: Mapping[str, int]
    estimates: Mapping[Quality, Estimate | None]


class VideosApi:
    def __init__(
        self,
        gate: Gate,
        store: Store,
        clips: ClipQueue | None,
        engine: Engine,
        *,
        wall_time: Callable[[], float],
        most_queued: int,
        most_bytes: int,
    ) -> None:
        """`clips`: None on a server that makes none. `most_queued` and `most_bytes`: of each tenant."""
        self._gate = gate
        self._store = store
        self._clips = clips
        self._engine = engine
        self._wall_time = wall_time
        self._most_queued = most_queued
        self._most_bytes = most_bytes

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post(PATH, self._create)
        router.add_get(PATH, self._list)
        router.add_delete(PATH, self._erase)
        router.add_post(PATH + "/extensions", self._extend)
        router.add_post(PATH + "/edits", self._not_offered)
        router.add_post(PATH + "/characters", self._not_offered)
        router.add_get(PATH + "/characters/{character_id}", self._not_offered)
        router.add_get(PATH + "/{video_id}", self._retrieve)
        router.add_delete(PATH + "/{video_id}", self._delete)
        router.add_post(PATH + "/{video_id}/cancel", self._cancel)
        router.add_post(PATH + "/{video_id}/remix", self._remix)
        router.add_get(PATH + "/{video_id}/content", self._content)

    def _admit(self, request: web.Request) -> Identity:
        """A secret for one stage orders no clips. Raises `Refused`."""
        identity = self._gate.admit(request, "prompt", "")
        if identity.limits.engine_s is not None:
            # Its account ends with its life, and a clip may be made later.
            raise Refused("missing_scope", "a client secret with `engine_s` orders no clips; use a key")
        if self._clips is None:
            raise Refused("not_supported", "this server makes no clips on demand; its operator may name --clips-folder")
        return identity

    @property
    def _queue(self) -> ClipQueue:
        assert self._clips is not None, "`_admit` comes first"
        return self._clips

    # --- orders ---------------------------------------------------------------------------------------------------

    async def _create(self, request: web.Request) -> web.StreamResponse:
        identity = self._admit(request)
        fields = await _fields(request)
        return await self._order(request, identity, await self._read(fields))

    async def _remix(self, request: web.Request) -> web.StreamResponse:
        """The same clip with other words: the same seed, size and length."""
        identity = self._admit(request)
        source = await self._job(request, identity)
        fields = await _fields(request)
        if set(fields) != {"prompt"}:
            raise Refused("missing_field", "a remix has the field `prompt` and no other", param="prompt")
        ordered = await self._read(fields)
        spec = msgspec.structs.replace(source.spec, prompt=ordered.spec.prompt)
        remix = Ordered(spec, source.user, source.metadata, f"{ordered.digest} {source.id}")
        return await self._order(request, identity, remix, remixed_from=source.id)

    async def _extend(self, request: web.Request) -> web.StreamResponse:
        """Goes on from a clip's last frame; the new clip has both."""
        identity = self._admit(request)
        fields = await _fields(request)
        model = self._model()
        if not model.can_start_from_frame:
            raise Refused("not_supported", f"`{model.name}` cannot go on from a clip", param="video")
        video_id = _video_id(fields.pop("video", None))
        source = await self._store.ask(partial(rows.find, video_id=video_id, tenant=identity.tenant))
        if source is None or source.made is None:
            raise Refused("unknown_video", "there is no finished clip with this id", param="video")
        if source.made.frame_rate != model.frame_rate:
            raise Refused("not_supported", "another model with another frame rate made this clip", param="video")
        ordered = await self._read({"prompt": source.spec.prompt, "seed": source.spec.seed, **fields})
        spec = msgspec.structs.replace(
            ordered.spec, source_id=source.id, width=source.spec.width, height=source.spec.height
        )
        extended = Ordered(spec, ordered.user, ordered.metadata, f"{ordered.digest} {source.id}")
        return await self._order(request, identity, extended)

    async def _read(self, fields: Mapping[str, Any]) -> Ordered:
        """In a thread, because it may have a picture to decode."""
        model = self._model()
        if wishes.REFERENCE in fields:
            return await asyncio.to_thread(wishes.read, fields, model)
        return wishes.read(fields, model)

    def _model(self) -> ModelDescription:
        if self._engine.model is None:
            raise Refused("server_busy", "the engine still loads its model", retry_after_ms=2000)
        return self._engine.model

    async def _order(
        self, request: web.Request, identity: Identity, ordered: Ordered, *, remixed_from: str | None = None
    ) -> web.StreamResponse:
        key = request.headers.get("Idempotency-Key")
        if key is not None and not _KEY.fullmatch(key):
            raise Refused(
                "invalid_value", "`Idempotency-Key` has 1 to 255 visible ASCII characters", param="Idempotency-Key"
            )
        payer = self._gate.payer(request, identity)
        payer.prompt()
        payer.check(self._engine.cost_s(ordered.spec.quality) or 0.0)
        most_bytes = min(self._most_bytes, payer.stored_bytes if payer.stored_bytes is not None else self._most_bytes)
        if await self._store.ask(partial(rows.num_bytes, tenant=identity.tenant)) >= most_bytes:
            raise Refused(
                "storage_full", f"the clips of this key take {most_bytes / 1e9:.1f} GB, the most; delete some"
            )
        job = await self._store.ask(
            partial(
                rows.add,
                tenant=identity.tenant,
                spec=ordered.spec,
                now=self._wall_time(),
                user=ordered.user,
                metadata=ordered.metadata,
                remixed_from=remixed_from,
                idempotency_key=key,
                digest=ordered.digest,
                is_retry=request.headers.get("x-stainless-retry-count", "0") not in ("", "0"),
                most_queued=self._most_queued,
            )
        )
        if job is None:
            raise Refused("server_full", f"{self._most_queued} clips of this key wait already", retry_after_ms=30_000)
        self._queue.wake()
        return await self._answer(job)

    async def _not_offered(self, request: web.Request) -> web.StreamResponse:
        self._admit(request)
        raise Refused(
            "not_offered", "this server has neither edits nor characters; `remix` makes a clip with other words"
        )

    # --- questions ------------------------------------------------------------------------------------------------

    async def _retrieve(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(await self._job(request, self._admit(request)))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        identity = self._admit(request)
        limit = json_http.number(request, "limit", DEFAULT_PAGE, MAX_PAGE, max_digits=4)
        order = request.query.get("order", "desc")
        if order not in ("asc", "desc"):
            raise Refused("invalid_value", "`order` is `asc` or `desc`", param="order")
        search = request.query.get("search") or None
        if search is not None and len(search) > MAX_SEARCH_CHARACTERS:
            reason = f"`search` has at most {MAX_SEARCH_CHARACTERS} characters"
            raise Refused("invalid_value", reason, param="search")
        found = await self._store.ask(
            partial(
                rows.page,
                tenant=identity.tenant,
                after=request.query.get("after"),
                limit=limit,
                is_ascending=order == "asc",
                search=search,
            )
        )
        if found is None:
            raise Refused("unknown_video", "`after` names no clip", param="after")
        jobs, has_more = found
        foresight = await self._foresight(jobs)
        return json_http.page([self._video(job, foresight) for job in jobs], has_more=has_more)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        job = await self._job(request, self._admit(request))
        # The row first: a clip that ends just now then removes its own files.
        await self._store.ask(partial(rows.delete, video_id=job.id))
        await self._queue.cancel(job.id)
        await asyncio.to_thread(self._queue.folder.remove, job.id)
        return json_http.answer({"id": job.id, "object": "video.deleted", "deleted": True})

    async def _erase(self, request: web.Request) -> web.StreamResponse:
        """All clips of one of the key's users, with their words, files and events. A page's secret does not do."""
        identity, user = self._gate.admit_key(request), request.query.get("user")
        self._admit(request)
        if user is None:
            raise Refused("missing_field", "`?user=` names the user whose clips shall go", param="user")
        if not wishes.is_user(user):
            raise Refused("invalid_value", wishes.USER_RULE, param="user")
        num_erased = await self._queue.erase(identity.tenant, user)
        self._gate.note(request, identity, door_of(request))
        return json_http.answer({"object": "video.erased", "user": user, "deleted": True, "num_deleted": num_erased})

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        """Ends a clip as `failed` with the code `cancelled`, and keeps its row. Does nothing to one that has ended."""
        identity = self._admit(request)
        job = await self._job(request, identity)
        failure = Failure(ClipError.CANCELLED, "this clip was cancelled")
        await self._store.ask(partial(rows.fail, video_id=job.id, failure=failure, now=self._wall_time()))
        await self._queue.cancel(job.id)
        return await self._answer(await self._job(request, identity))

    async def _content(self, request: web.Request) -> web.StreamResponse:
        """With ranges. A signed link needs no key. `?download=NAME`: a browser saves it under this name."""
        variant = request.query.get("variant", "video")
        if variant not in _VARIANTS:
            raise Refused("invalid_value", f"`variant` is one of {', '.join(_VARIANTS)}", param="variant")
        name, kind = _VARIANTS[variant]
        video_id = request.match_info["video_id"]
        if self._clips is None or not self._is_signed(request, video_id, variant):
            job = await self._job(request, self._admit(request))
            if job.status != "completed":
                raise Refused(
                    "not_ready", f"this clip is `{job.status}`", retry_after_ms=None if job.has_ended else 1000
                )
        path = self._queue.folder.find(video_id, name)
        if path is None:
            raise Refused("unknown_video", "there is no such clip")
        ending = name.rpartition(".")[2]
        disposition = f'inline; filename="{video_id}.{ending}"'
        if (wanted := request.query.get("download")) is not None:
            disposition = f"attachment; filename*=UTF-8''{quote(wanted[:MAX_FILE_NAME], safe='', errors='replace')}"
        headers = {"Content-Type": kind, "Content-Disposition": disposition}
        return web.FileResponse(path, headers=headers)

    async def _job(self, request: web.Request, identity: Identity) -> Job:
        """Raises `Refused`. Another tenant's clip looks like none."""
        find = partial(rows.find, video_id=request.match_info["video_id"], tenant=identity.tenant)
        job: Job | None = await self._store.ask(find)
        if job is None:
            raise Refused("unknown_video", "there is no clip with this id; it may have been deleted")
        return job

    # --- answers --------------------------------------------------------------------------------------------------

    async def _answer(self, job: Job) -> web.StreamResponse:
        video = self._video(job, await self._foresight([job]))
        response = json_http.answer(video)
        if not job.has_ended:
            rest_ms = 1000 * (video.get("estimated_completed_at", job.created_at + 4) - self._wall_time())
            response.headers["openai-poll-after-ms"] = str(round(min(MAX_POLL_MS, max(MIN_POLL_MS, rest_ms / 4))))
        return response

    def _video(self, job: Job, foresight: Foresight) -> dict[str, Any]:
        """OpenAI's object, and what we know beside it."""
        spec, made = job.spec, job.made
        video: dict[str, Any] = {
            "id": job.id,
            "object": "video",
            "model": made.model if made else self._engine.model.name if self._engine.model else "",
            "status": job.status,
            "progress": 100 if job.status == "completed" else self._queue.progress(job.id),
            "created_at": int(job.created_at),
            "completed_at": int(job.finished_at) if job.status == "completed" and job.finished_at else None,
            "expires_at": int(job.expires_at) if job.expires_at else None,
            "seconds": f"{made.seconds if made else spec.seconds:g}",
            "size": f"{spec.width}x{spec.height}",
            "prompt": spec.prompt,
            "remixed_from_video_id": job.remixed_from,
            "error": {"code": job.failure.code, "message": job.failure.message} if job.failure else None,
            "seed": spec.seed,
            "quality": spec.quality.value,
            "metadata": job.metadata,
        }
        if made is not None:
            video |= {
                "fps": made.frame_rate,
                "native_size": f"{made.native_width}x{made.native_height}",
                "engine_s": made.engine_s,
                "is_reused": made.is_reused,
                "not_understood": list(made.not_understood),
                "content_url": self.link(job.id),
                "thumbnail_url": self.link(job.id, "thumbnail"),
            }
        elif not job.has_ended:
            video |= self._foretold(job, foresight)
        return video

    async def _foresight(self, jobs: Sequence[Job]) -> Foresight:
        """For the jobs of one answer together, because a list may have a hundred."""
        waiting = [job for job in jobs if not job.has_ended]
        positions = await self._store.ask(partial(rows.positions, jobs=waiting)) if waiting else {}
        estimates: dict[Quality, Estimate | None] = {}
        for job in waiting if self._engine.model is not None else ():
            if (quality := job.spec.quality) not in estimates:
                probe = Generate("", "", quality, wants_previews=False, is_operator=False, due_in_s=DUE_IN_S)
                estimates[quality] = self._engine.estimate(probe)
        return Foresight(positions, estimates)

    def _foretold(self, job: Job, foresight: Foresight) -> dict[str, Any]:
        """The place in the queue, and the arbiter's own estimate of one clip for each that comes before."""
        position = foresight.positions.get(job.id, 0)
        model, estimate = self._engine.model, foresight.estimates.get(job.spec.quality)
        told: dict[str, Any] = {"queue_position": position}
        if estimate is not None and model is not None:
            parts = max(1, math.ceil(job.spec.seconds * model.frame_rate / model.num_frames))
            ahead = position + self._queue.num_being_made if job.status == "queued" else 0
            share = 1 - self._queue.progress(job.id) / 100
            told["estimated_completed_at"] = int(self._wall_time() + estimate.picture_s * parts * (share + ahead)) + 1
        return told

    # --- links ----------------------------------------------------------------------------------------------------

    def link(self, video_id: str, variant: str = "video") -> str:
        """To a file, for whoever has the link, until its end."""
        expires = int(self._wall_time()) + LINK_LIVES_S
        query = {"variant": variant, "expires": expires, "signature": self._signature(video_id, variant, expires)}
        return f"{PATH}/{video_id}/content?{urlencode(query)}"

    def _is_signed(self, request: web.Request, video_id: str, variant: str) -> bool:
        """Raises `Refused` for a link that has ended or was forged."""
        signature, expires = request.query.get("signature"), request.query.get("expires", "")
        if signature is None:
            return False
        is_number = expires.isascii() and expires.isdigit() and len(expires) < 12
        is_good = is_number and hmac.compare_digest(
            signature.encode(), self._signature(video_id, variant, int(expires)).encode()
        )
        if not is_good or int(expires) <= self._wall_time():
            raise Refused("unauthorized", "this link has ended, or is not one of this server's")
        return True

    def _signature(self, video_id: str, variant: str, expires: int) -> str:
        text = f"{video_id} {variant} {expires}".encode()
        return hmac.digest(self._gate.keyring.link_secret, text, "sha256").hex()[:40]


def _video_id(given: Any) -> str:
    """As a text, as `{"id": …}` or as `video[id]` in a form."""
    video_id = given.get("id") if isinstance(given, dict) else given
    if not isinstance(video_id, str):
        raise Refused("invalid_value", "`video` is the id of a clip of this server", param="video")
    return video_id


async def _fields(request: web.Request) -> dict[str, Any]:
    """Of a JSON body or a form. Raises `Refused`."""
    if request.content_type == "application/json" or not request.can_read_body:
        try:
            body = json.loads(await request.read() or b"{}")
        except (ValueError, RecursionError):
            raise Refused("invalid_json", "the body is no JSON") from None
        if not isinstance(body, dict):
            raise Refused("invalid_json", "expected one JSON object")
        return body
    if request.content_type == "application/x-www-form-urlencoded":
        return _nested({name: str(value) for name, value in (await request.post()).items()})
    if request.content_type != "multipart/form-data":
        reason = f"expected application/json or multipart/form-data, got {request.content_type[:64]}"
        raise Refused("unsupported_media_type", reason)
    return _nested(await _parts(request))


async def _parts(request: web.Request) -> dict[str, Any]:
    """A form's fields; a file is its bytes. Raises `Refused`. Each part is read up to its bound, and no further."""
    fields: dict[str, Any] = {}
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader) or part.name is None or len(fields) >= MAX_FIELDS:
                raise Refused("invalid_value", f"a form has {MAX_FIELDS} plain fields at most")
            most = MAX_UPLOAD_BYTES if part.filename is not None else MAX_FIELD_BYTES
            data = bytearray()
            while chunk := await part.read_chunk(65_536):
                data += chunk
                if len(data) > most:
                    raise Refused(
                        "message_too_large", f"`{part.name[:64]}` has more than {most} bytes", param=part.name[:64]
                    )
            fields[part.name] = bytes(data) if part.filename is not None else data.decode("utf-8", "replace")
    except (ValueError, AssertionError, HttpProcessingError) as error:
        raise Refused("invalid_value", f"the form cannot be read: {str(error)[:100]}") from None
    return fields


def _nested(fields: dict[str, Any]) -> dict[str, Any]:
    """`metadata[a]=b` of a form is `{"metadata": {"a": "b"}}`; a JSON text does for an object, too."""
    nested: dict[str, Any] = {}
    for name, value in fields.items():
        found = re.fullmatch(r"(\w+)\[(\w+)\]", name)
        if found is None:
            nested[name] = value
            continue
        inner = nested.setdefault(found[1], {})
        if not isinstance(inner, dict):
            raise Refused("invalid_value", f"`{found[1]}` is there twice", param=found[1])
        inner[found[2]] = value
    if isinstance(text := nested.get("metadata"), str):
        try:
            nested["metadata"] = json.loads(text)
        except (ValueError, RecursionError):
            raise Refused("invalid_value", "`metadata` is no JSON object", param="metadata") from None
    return nested
