"""One session's viewers: adds, limits and removes them, and knows which one is the controller's own peer.

Between `session.py`, which owns it, and the program, which owns the connections. Everything runs on the event loop.

Bounds: `max_viewers` that watch, and `MAX_CONNECTING` that still connect. The controller's own peer has a place beside
both. Drop rule: when a viewer comes and `MAX_CONNECTING` connect already, the address with the most of them loses its
oldest. So offers that never connect displace each other, and not the viewers of other addresses. An address that we can
tell from others has more than `MAX_OF_ADDRESS` for a second or two only (`tick`). When more connect than may watch,
those that connect last are dropped.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from server.accounts.payer import NOBODY, Payer, Place
from server.media.video.fanout import Subscription
from server.media.webrtc.signalling import Offer, OfferError
from server.protocol.errors import Refused
from server.protocol.messages import WebrtcCandidate
from server.session.neighbours import SessionProgram

# When a page should ask again for a place, which may come free at any time.
RETRY_AFTER_MS = 5000
# Half of the default `max_viewers`. A viewer connects within about 0.3 s, so 50 a second may come.
MAX_CONNECTING = 16
# Of one address that we can tell from others, and that take longer than a second or two to connect.
MAX_OF_ADDRESS = 4
# How many lost viewers are remembered, because a viewer's goodbye may come after the end of its connection.
MAX_LOST = 64


@dataclass(eq=False, slots=True)
class _Connecting:
    """One viewer between its offer and its first packet."""

    address: str | None  # None: not known
    viewer_id: str | None = None  # None until it has our answer
    has_waited: bool = False  # through a tick


class Viewers:
    """See the module. `on_joined` is called when a viewer begins to watch, `log` with a text for each join and end."""

    def __init__(
        self,
        program: SessionProgram,
        *,
        max_viewers: int,
        on_joined: Callable[[], None],
        log: Callable[[str], None],
    ) -> None:
        self._program = program
        self._max_viewers = max_viewers
        self._on_joined = on_joined
        self._log = log
        self._on_gone: dict[str, Callable[[str], None]] = {}  # by viewer id; called when it is gone
        self._connecting: list[_Connecting] = []  # the oldest first; never the controller's own
        self._lost: deque[str] = deque(maxlen=MAX_LOST)
        # One answer is made at a time: each takes some 6 ms of the event loop, and offers that came together would
        # hold up frames together. At most `MAX_CONNECTING` and the controller's own wait, in order.
        self._answering = asyncio.Lock()
        self._places: dict[Subscription, Place] = {}  # of viewers without a peer
        self._own_id: str | None = None  # the controller's peer
        self._carrier_id: str | None = None  # the viewer whose connection also carries the controller's messages

    async def add(
        self,
        offer: str | Offer,
        *,
        address: str | None = None,
        payer: Payer = NOBODY,
        on_gone: Callable[[str], None] = lambda viewer_id: None,
    ) -> tuple[str, str]:
        """Adds a viewer; returns its id and our SDP answer. `address` is where it asks from, if the door knows that.
        It takes a place of its payer's from now on, before it is known whether it will watch.

        Raises `Refused`. If cancelled, no viewer is left behind. `on_gone` is called once, with its id, when it has
        left or was lost.
        """
        self._check_room()
        place = payer.enter_viewer()

        def leave(viewer_id: str) -> None:
            place.leave()
            on_gone(viewer_id)

        try:
            connecting = self._enter(address)
        except Refused:
            place.leave()
            raise
        try:
            viewer_id, answer_sdp = await self._add(offer, connecting, on_gone=leave)
        except BaseException:
            place.leave()
            self._connecting = [one for one in self._connecting if one is not connecting]
            raise
        connecting.viewer_id = viewer_id
        return viewer_id, answer_sdp

    async def remove(self, viewer_id: str) -> None:
        """Raises `Refused` (`unknown_viewer`)."""
        if viewer_id in self._lost:
            self._lost.remove(viewer_id)  # its connection's end was quicker than its goodbye
            return
        if viewer_id not in self._on_gone:
            raise Refused("unknown_viewer", "there is no such viewer; it may have left")
        await self._program.remove_viewer(viewer_id)
        self._log(f"viewer {viewer_id} left, {self._program.num_viewers} now")
        self._forget(viewer_id)

    def lose(self, viewer_id: str) -> bool:
        """The program has lost this viewer; True if it was the controller's own."""
        self._log(f"viewer {viewer_id} lost")
        self._lost.append(viewer_id)
        was_own = viewer_id == self._own_id
        if was_own:
            self._own_id = None
        self._forget(viewer_id)
        return was_own

    def close(self) -> None:
        """The program ends, and all its viewers with it."""
        for viewer_id in list(self._on_gone):
            self._forget(viewer_id)

    def tick(self) -> None:
        """Once a second: an address with many viewers that connect loses the oldest, if they had a second for it.

        A class behind one router connects within that time. Offers that never connect hold few places.
        """
        counts = Counter(one.address for one in self._connecting)
        for one in list(self._connecting):
            is_crowded = one.address is not None and counts[one.address] > MAX_OF_ADDRESS
            if is_crowded and one.has_waited and one.viewer_id is not None:
                counts[one.address] -= 1
                self._drop(one.viewer_id)
            one.has_waited = True

    def watch(self, payer: Payer = NOBODY) -> Subscription:
        """Adds a viewer without a peer (`watch.py`), until `leave`; returns its frames. Raises `Refused`."""
        self._check_room()
        place = payer.enter_viewer()
        subscription = self._program.watch()
        self._places[subscription] = place
        self._log(f"viewer over WebSocket joined, {self._program.num_viewers} now")
        self._on_joined()
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """Ends what `watch` gave."""
        self._program.leave(subscription)
        if (place := self._places.pop(subscription, None)) is not None:
            place.leave()
        self._log(f"viewer over WebSocket left, {self._program.num_viewers} now")

    async def add_candidate(
        self, viewer_id: str, candidate: str, sdp_mid: str | None, sdp_mline_index: int | None
    ) -> None:
        """A trickled candidate of a viewer's. Raises `Refused`."""
        try:
            await self._program.add_candidate(viewer_id, candidate, sdp_mid, sdp_mline_index)
        except OfferError as error:
            raise Refused(error.code, error.message, param="candidate") from None

    # --- the controller's own peer --------------------------------------------------------------------------------

    async def connect(
        self,
        offer: str | Offer,
        *,
        on_channel: Callable[[Any], None] | None = None,
        on_gone: Callable[[str], None] = lambda viewer_id: None,
    ) -> tuple[str, str]:
        """As `add`, for the controller's own peer, which replaces the previous one.

        A laptop that changed networks sends a new offer long before its old peer is noticed to be gone. A peer that
        carries the controller's messages (`on_channel`) stays; otherwise replacing it would close the connection that
        carries this very message.
        """
        replaced = self._own_id if self._own_id in self._on_gone and self._own_id != self._carrier_id else None
        try:
            viewer_id, answer_sdp = await self._add(offer, None, on_channel=on_channel, on_gone=on_gone)
        except Refused as refusal:
            # No UDP port is free. The old peer holds one, or else a viewer that still connects: remove it first.
            holder = replaced or self._next_dropped()
            if refusal.detail.code != "too_many_viewers" or holder is None:
                raise
            await self.remove(holder)
            viewer_id, answer_sdp = await self._add(offer, None, on_channel=on_channel, on_gone=on_gone)
        self._own_id = viewer_id
        if replaced is not None and replaced in self._on_gone:
            await self.remove(replaced)
        if on_channel is not None:
            self._carrier_id = viewer_id
        return viewer_id, answer_sdp

    async def add_own_candidate(self, message: WebrtcCandidate) -> None:
        """Raises `Refused`."""
        if self._own_id is None:
            raise Refused("not_connected", "send `webrtc.offer` first")
        await self.add_candidate(self._own_id, message.candidate, message.sdp_mid, message.sdp_mline_index)

    def rtp_timestamp(self, frame_index: int) -> int | None:
        """Of a frame sent to the controller's own peer; None without such a peer."""
        return None if self._own_id is None else self._program.rtp_timestamp(self._own_id, frame_index)

    # --- inside ---------------------------------------------------------------------------------------------------

    @property
    def _num_watching(self) -> int:
        """Without the controller's own peer."""
        is_own = self._own_id is not None and self._program.is_watching(self._own_id)
        return self._program.num_viewers - is_own

    def _check_room(self) -> None:
        if self._num_watching >= self._max_viewers:
            raise _too_many(f"{self._max_viewers} viewers watch already")

    def _enter(self, address: str | None) -> _Connecting:
        """A place among those that connect: see the module. Raises `Refused` while nobody can be dropped for it."""
        if len(self._connecting) >= MAX_CONNECTING:
            dropped = self._next_dropped()
            if dropped is None:
                raise _too_many(f"{MAX_CONNECTING} viewers connect already")
            self._drop(dropped)
        connecting = _Connecting(address)
        self._connecting.append(connecting)
        return connecting

    def _drop(self, viewer_id: str) -> None:
        self._connecting = [one for one in self._connecting if one.viewer_id != viewer_id]
        self._program.drop_viewer(viewer_id)

    def _next_dropped(self) -> str | None:
        """The oldest of the address that has the most; None if no viewer that connects has our answer yet."""
        counts = Counter(one.address for one in self._connecting)
        answered = [one for one in self._connecting if one.viewer_id is not None]
        return max(answered, key=lambda one: counts[one.address]).viewer_id if answered else None

    def _may_watch(self, connecting: _Connecting | None, viewer_id: str) -> bool:
        """A viewer's connection stands. It was counted just now; others may have taken the last place meanwhile."""
        if connecting is not None:
            self._connecting = [one for one in self._connecting if one is not connecting]
            if self._num_watching > self._max_viewers:
                return False
        self._log(f"viewer {viewer_id} watches, {self._program.num_viewers} now")
        self._on_joined()
        return True

    async def _add(
        self,
        offer: str | Offer,
        connecting: _Connecting | None,
        *,
        on_channel: Callable[[Any], None] | None = None,
        on_gone: Callable[[str], None],
    ) -> tuple[str, str]:
        """`connecting` is None for the controller's own peer, which needs no place."""
        try:
            async with self._answering:
                viewer_id, answer_sdp = await self._program.add_viewer(
                    offer, on_channel=on_channel, on_watching=partial(self._may_watch, connecting)
                )
        except OfferError as error:
            if error.code == "too_many_viewers":
                raise _too_many(error.message) from None
            raise Refused(error.code, error.message, param="sdp") from None
        self._on_gone[viewer_id] = on_gone
        self._log(f"viewer {viewer_id} connects")
        return viewer_id, answer_sdp

    def _forget(self, viewer_id: str) -> None:
        on_gone = self._on_gone.pop(viewer_id, None)
        self._connecting = [one for one in self._connecting if one.viewer_id != viewer_id]
        if viewer_id == self._carrier_id:
            self._carrier_id = None
        if on_gone is not None:
            on_gone(viewer_id)


def _too_many(reason: str) -> Refused:
    return Refused("too_many_viewers", reason, retry_after_ms=RETRY_AFTER_MS)
