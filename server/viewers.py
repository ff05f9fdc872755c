"""A session's viewers: who watches, how many may, and which of them is the controller's own peer.

Between `session.py`, which owns it, and the program, which owns the connections. Everything runs on the event loop.
"""

from __future__ import annotations

from collections.abc import Callable

from server.media.program import OfferError
from server.messages import Refused, WebrtcCandidate
from server.neighbours import Controller, SessionProgram

# A place may come free at any time; a page need not ask more often.
RETRY_AFTER_MS = 5000


class Viewers:
    """See the module. `on_joined` is called after each that joins, `log` with what becomes of them."""

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
        self._viewer_ids: set[str] = set()
        self._own_id: str | None = None  # the controller's peer
        self._owner: Controller | None = None

    async def add(self, offer_sdp: str) -> tuple[str, str]:
        """The new viewer's id and our answer. Raises `Refused`. If cancelled, no viewer is left behind."""
        if self._program.num_viewers >= self._max_viewers:
            reason = f"{self._max_viewers} viewers watch already"
            raise Refused("too_many_viewers", reason, retry_after_ms=RETRY_AFTER_MS)
        try:
            viewer_id, answer_sdp = await self._program.add_viewer(offer_sdp)
        except OfferError as error:
            raise Refused(error.code, error.message, param="sdp") from None
        self._viewer_ids.add(viewer_id)
        self._log(f"viewer {viewer_id} joined, {self._program.num_viewers} now")
        self._on_joined()
        return viewer_id, answer_sdp

    async def remove(self, viewer_id: str) -> None:
        """Raises `Refused` (`unknown_viewer`)."""
        if viewer_id not in self._viewer_ids:
            raise Refused("unknown_viewer", "there is no such viewer; it may have left")
        self._viewer_ids.discard(viewer_id)
        await self._program.remove_viewer(viewer_id)
        self._log(f"viewer {viewer_id} left, {self._program.num_viewers} now")

    def lose(self, viewer_id: str) -> bool:
        """The program has lost it; True if it was the controller's own."""
        self._viewer_ids.discard(viewer_id)
        self._log(f"viewer {viewer_id} lost")
        if viewer_id != self._own_id:
            return False
        self._own_id = self._owner = None
        return True

    # --- the controller's own peer --------------------------------------------------------------------------------

    async def connect(self, offer_sdp: str, controller: Controller | None) -> str:
        """Our answer to the controller's own peer: one per connection; that of an earlier connection is replaced."""
        if self._own_id is not None and self._owner is controller:
            raise Refused("already_connected", "this connection has a peer already")
        viewer_id, answer_sdp = await self.add(offer_sdp)
        replaced, self._own_id, self._owner = self._own_id, viewer_id, controller
        if replaced in self._viewer_ids:
            await self.remove(replaced)
        return answer_sdp

    async def add_candidate(self, message: WebrtcCandidate) -> None:
        """Raises `Refused`."""
        if self._own_id is None:
            raise Refused("not_connected", "send `webrtc.offer` first")
        try:
            await self._program.add_candidate(self._own_id, message.candidate, message.sdp_mid, message.sdp_mline_index)
        except OfferError as error:
            raise Refused(error.code, error.message, param="candidate") from None

    def rtp_timestamp(self, frame_index: int) -> int | None:
        """Of a frame on its way to the controller's own peer; None without one."""
        return None if self._own_id is None else self._program.rtp_timestamp(self._own_id, frame_index)
