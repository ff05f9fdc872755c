"""Fakes for tests of the server: a hand-driven engine, a program whose frames the test sends, a session around them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from engine.api import (
    Cancel,
    Command,
    CostEntry,
    EngineReport,
    EngineState,
    EngineStatistics,
    Estimate,
    Event,
    Frames,
    FramesReady,
    Generate,
    GenerationCancelled,
    GenerationFinished,
    GenerationStarted,
    ModelDescription,
    PreviewReady,
    PromptWords,
    Quality,
    StepFinished,
    Timings,
)
from server.clock import FakeClock
from server.media.program import ProgramStatistics, Shown
from server.media.program_format import ProgramFormat
from server.media.sound.audio_track import AudioFanout
from server.media.video.fanout import Fanout, Subscription
from server.media.video.rendition import ladder
from server.media.webrtc.signalling import Offer, OfferError
from server.metrics import Metrics
from server.protocol.decoding import decode
from server.protocol.messages import SessionOptions
from server.session.session import Neighbours, Session
from server.stage.picture import OnAir
from server.stage.stage import Stage

MODEL = ModelDescription(
    name="fake",
    device="none",
    width=32,
    height=16,
    num_frames=4,
    frame_rate=12,
    num_steps={Quality.FAST: 4, Quality.FINE: 8},
    closes_on_itself=True,
)
ABLE_MODEL = replace(MODEL, can_start_from_frame=True, loras=("ink", "水墨"))


def frames(num_frames: int) -> Frames:
    return Frames(np.zeros((num_frames, MODEL.height * 3 // 2, MODEL.width), np.uint8))


@dataclass
class FakeEngine:
    """Keeps the commands; the test sends the events."""

    state: EngineState = EngineState.READY
    model: ModelDescription | None = MODEL
    sent: list[Command] = field(default_factory=list)
    refusal: Exception | None = None
    core_share: float | None = None
    is_starved: bool = False

    def __post_init__(self) -> None:
        self._is_closed = asyncio.Event()

    async def open(self) -> None: ...

    async def close(self) -> None:
        self.state = EngineState.CLOSED
        self._is_closed.set()

    def send(self, command: Command) -> None:
        if isinstance(command, Generate) and self.refusal is not None:
            raise self.refusal
        self.sent.append(command)

    async def events(self) -> AsyncIterator[Event]:
        await self._is_closed.wait()
        for event in ():
            yield event

    def estimate(self, command: Generate) -> Estimate | None:
        return Estimate(preview_s=0.2, picture_s=1.5)

    def words(self, prompt: str) -> PromptWords:
        """It knows all words except `dragon` ones."""
        words = prompt.split()
        return PromptWords(
            tuple(word for word in words if word != "dragon"), tuple(word for word in words if word == "dragon")
        )

    def cost_s(self, quality: Quality) -> float | None:
        return 1.3

    def costs(self) -> tuple[CostEntry, ...]:
        return ()

    def report(self) -> EngineReport | None:
        return None

    def statistics(self) -> EngineStatistics:
        return EngineStatistics(core_share=self.core_share, is_starved=self.is_starved)

    @property
    def generated(self) -> list[Generate]:
        return [command for command in self.sent if isinstance(command, Generate)]

    @property
    def cancelled_ids(self) -> list[str]:
        return [command.generation_id for command in self.sent if isinstance(command, Cancel)]


class FakeProgram:
    """A program with a real stage and no pixels: `send_frame` is its clock."""

    def __init__(
        self,
        program_format: ProgramFormat,
        *,
        clock: FakeClock,
        on_shown: Callable[[Shown], None],
        on_changed: Callable[[OnAir, str | None], None],
        on_viewer_lost: Callable[[str], None],
        on_music_failed: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.stage = Stage(program_format.frame_rate)
        self.format = program_format
        self.viewers: list[str] = []
        self.is_slow_to_connect = False  # then viewers watch only after `connect`
        self.connecting: dict[str, Callable[[str], bool]] = {}
        self.watchers: list[Subscription] = []
        self.sound = AudioFanout(lambda: None)
        self.fanout = Fanout(ladder(program_format.width, program_format.height, program_format.bitrate)[0], 48)
        self.candidates: list[str] = []
        self.is_open = False
        self.dead_task: str | None = None
        self.num_ports = 1000  # for UDP
        self.played: list[tuple[str | None, float]] = []
        self.lose_music = on_music_failed
        self.counted: dict[str, float] = {}  # for `statistics`
        self._clock = clock
        self.on_changed = on_changed
        self._on_shown = on_shown
        self._on_viewer_lost = on_viewer_lost
        self._frame_index = 0
        self._num_viewers_ever = 0

    @property
    def num_viewers(self) -> int:
        return len(self.viewers) - len(self.connecting) + len(self.watchers)

    async def open(self) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False
        self.viewers.clear()

    async def add_viewer(
        self,
        offer: str | Offer,
        *,
        on_channel: Callable[[Any], None] | None = None,
        on_watching: Callable[[str], bool] = lambda viewer_id: True,
    ) -> tuple[str, str]:
        if isinstance(offer, str) and not offer.startswith("v=0"):
            raise OfferError("invalid_sdp", "expected SDP")
        if len(self.viewers) >= self.num_ports:
            raise OfferError("too_many_viewers", "no UDP port is free")
        self._num_viewers_ever += 1
        viewer_id = f"v{self._num_viewers_ever}"
        self.viewers.append(viewer_id)
        if self.is_slow_to_connect:
            self.connecting[viewer_id] = on_watching
        else:
            on_watching(viewer_id)
        return viewer_id, "v=0 answer"

    def connect(self, viewer_id: str) -> None:
        """The connection of a viewer of a slow program stands."""
        if not self.connecting.pop(viewer_id)(viewer_id):
            self.lose(viewer_id)

    def is_watching(self, viewer_id: str) -> bool:
        return viewer_id in self.viewers and viewer_id not in self.connecting

    def drop_viewer(self, viewer_id: str) -> None:
        self.lose(viewer_id)

    async def add_candidate(
        self, viewer_id: str, candidate: str, sdp_mid: str | None, sdp_mline_index: int | None
    ) -> None:
        self.candidates.append(candidate)

    async def remove_viewer(self, viewer_id: str) -> None:
        self.viewers.remove(viewer_id)
        self.connecting.pop(viewer_id, None)

    def play(self, music: str | None, volume: float) -> None:
        self.played.append((music, volume))

    def watch(self) -> Subscription:
        self.watchers.append(self.fanout.subscribe())
        return self.watchers[-1]

    def record(self) -> Subscription:
        return self.fanout.subscribe(is_viewer=False)

    def leave(self, subscription: Subscription) -> None:
        if subscription in self.watchers:
            self.watchers.remove(subscription)
        subscription.close()

    def rtp_timestamp(self, viewer_id: str, frame_index: int) -> int | None:
        return 1000 + frame_index * 3750 if viewer_id in self.viewers else None

    def statistics(self) -> ProgramStatistics:
        nothing = {field.name: 0 for field in fields(ProgramStatistics)}
        return ProgramStatistics(**nothing | {"continuous_play_ratio": 1.0} | self.counted)

    def picture_on_air(self, width: int, height: int) -> Frames:
        return Frames(np.full((1, height * 3 // 2, width), 77, np.uint8))

    def jpeg(self, frames: Frames) -> bytes:
        return b"jpeg of %d" % frames.planes[0, 0, 0]

    def lose(self, viewer_id: str) -> None:
        self.viewers.remove(viewer_id)
        self.connecting.pop(viewer_id, None)
        self._on_viewer_lost(viewer_id)

    def send_frame(self) -> None:
        picture = self.stage.picture(self._frame_index)
        for first in picture.first_shown:
            self._on_shown(
                Shown(
                    first=first,
                    frame_index=self._frame_index,
                    sent_at=self._clock.now(),
                    composed_s=0.001,
                    encoded_s=0.004,
                )
            )
        self._frame_index += 1


class FakeController:
    def __init__(self) -> None:
        self.aborted: str | None = None
        self.num_farewells = 0

    def abort(self, reason: str) -> None:
        self.aborted = reason

    async def farewell(self) -> None:
        self.num_farewells += 1


class SessionHarness:
    """One session, with fakes around it that the test controls."""

    def __init__(self, options: SessionOptions, **more: Any) -> None:
        """`more` goes to the session, or to the neighbours that sessions share."""
        names = {field.name for field in fields(Neighbours)}
        shared = {name: value for name, value in more.items() if name in names}
        own = {name: value for name, value in more.items() if name not in names}
        self.clock = FakeClock()
        self.engine = FakeEngine()
        self.metrics = Metrics()
        self.controller = FakeController()
        self.session = Session(
            "s1",
            options,
            Neighbours(
                self.engine,
                self.metrics,
                self.clock,
                make_program=FakeProgram,
                max_viewers=3,
                music=("calm", "waves"),
                wall_time=lambda: 0.0,
                **shared,
            ),
            **own,
        )
        self.session.attach(self.controller)
        self.program: FakeProgram = self.session.program  # type: ignore[assignment]
        self.all_received: list[dict[str, Any]] = []

    async def say(self, kind: str, **fields: object) -> list[dict[str, Any]]:
        """Sends a client message; returns the session's messages since then."""
        await self.session.handle(decode(json.dumps({"type": kind, **fields})))
        return await self.hear()

    async def hear(self) -> list[dict[str, Any]]:
        """All messages that the session has sent since the last call."""
        messages = await heard(self.session)
        self.all_received += messages
        return messages

    def ends(self) -> dict[str, list[str]]:
        """prompt_id → its ends."""
        ends: dict[str, list[str]] = {}
        for message in self.all_received:
            verb = message["type"].removeprefix("prompt.")
            if verb in ("applied", "superseded", "cancelled", "rejected", "failed"):
                ends.setdefault(message["prompt_id"], []).append(verb)
        return ends

    # --- the engine's side ----------------------------------------------------------------------------------------

    @property
    def generation_id(self) -> str:
        return self.engine.generated[-1].generation_id

    def start(self, *, degraded: tuple[str, ...] = (), is_reused: bool = False) -> None:
        started = GenerationStarted(self.generation_id, 4, ("sea",), ("blorp",), degraded, is_reused)
        self.session.on_generation_event(started)

    def step(self, step_index: int, *, with_preview: bool = True) -> None:
        self.session.on_generation_event(StepFinished(self.generation_id, step_index, 4))
        if with_preview:
            self.session.on_generation_event(PreviewReady(self.generation_id, step_index, 4, frames(1)))

    def deliver(self, num_frames: int = 4) -> None:
        """The clip in two chunks, and the end."""
        self.deliver_first_chunk()
        self.session.on_generation_event(FramesReady(self.generation_id, 1, frames(num_frames - 1)))
        timings = Timings(queued_s=0.1, text_s=0.2, denoised_s=0.3, previewed_s=0.05, decoded_s=0.4)
        self.session.on_generation_event(GenerationFinished(self.generation_id, 4, timings))

    def deliver_first_chunk(self) -> None:
        self.session.on_generation_event(FramesReady(self.generation_id, 0, frames(1)))

    def confirm_cancel(self, generation_id: str | None = None, num_steps_done: int = 1) -> None:
        self.session.on_generation_event(GenerationCancelled(generation_id or self.generation_id, num_steps_done))

    def make_clip(self, *, degraded: tuple[str, ...] = ()) -> None:
        self.start(degraded=degraded)
        for step_index in range(4):
            self.step(step_index)
        self.deliver()


async def heard(session: Session) -> list[dict[str, Any]]:
    """All messages that a session has sent since the last call."""
    messages = []
    while session.outbox.statistics().num_pending:
        text = await session.outbox.next_text()
        assert text is not None
        messages.append(json.loads(text))
    return messages


def types(messages: list[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in messages]


def only(messages: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The one message of this type."""
    found = [message for message in messages if message["type"] == kind]
    assert len(found) == 1, types(messages)
    return found[0]


def error_code(messages: list[dict[str, Any]]) -> str:
    return str(only(messages, "error")["error"]["code"])
