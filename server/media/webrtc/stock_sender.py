"""The plain twin of `sender.py`: aiortc's own RTP sender, fed with the program's ready packets as a track.

It has one rendition, a pace only between frames that waited, 1300-byte payloads, and a task for each viewer. Kept for
comparison and as a fallback (`--sender aiortc`). A test checks that viewers of both see the same pictures. Event loop.

It uses three private names of aiortc 1.16.0, each with a test:

* `RTCRtpSender._send_keyframe` is replaced: with ready packets, a viewer's PLI and FIR would not reach us.
* `RTCRtpSender._handle_rtcp_packet` is wrapped, to know when the viewer last sent something.
* `RTCRtpSender.__rtp_timestamp` is read, to learn the random origin of the RTP timestamps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import av
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from server.clock import Clock
from server.media.video.encoder import EncodedFrame
from server.media.video.fanout import Fanout, Subscription, SubscriptionClosed
from server.media.video.rendition import Rendition

logger = logging.getLogger(__name__)

_RTP_TIMESTAMP = "_RTCRtpSender__rtp_timestamp"

# Between frames that waited: a second's worth takes a tenth of a second, at 20 Mbit/s for a program of 2 Mbit/s.
BACKLOG_INTERVAL_S = 0.004


class StockSending:
    """One viewer's track, and our hooks in its sender."""

    def __init__(
        self,
        fanout: Fanout,
        rendition: Rendition,
        *,
        clock: Clock,
        on_heard: Callable[[], None],
        on_ended: Callable[[str], None],
    ) -> None:
        self._fanout = fanout
        self._rendition = rendition
        self._on_heard = on_heard
        self._sender: Any = None
        self._timestamp_origin: int | None = None
        self.track = ViewerTrack(
            lambda: fanout.subscribe(rendition), clock=clock, on_sent=self._learn_origin, on_ended=on_ended
        )

    def hook(self, sender: Any) -> None:
        self._sender = sender
        handle_rtcp = sender._handle_rtcp_packet

        async def heard(packet: object) -> None:
            self._on_heard()
            await handle_rtcp(packet)

        sender._handle_rtcp_packet = heard
        sender._send_keyframe = lambda: self._fanout.request_keyframe(self._rendition)

    async def stop(self) -> None:
        self.track.stop()

    def rtp_timestamp(self, media_time: int) -> int | None:
        """None until the first packet was sent."""
        if self._timestamp_origin is None:
            return None
        return (self._timestamp_origin + media_time) & 0xFFFFFFFF

    def _learn_origin(self, frame: EncodedFrame) -> None:
        """After a frame was sent, its RTP timestamp is the sender's last one; the difference is the origin."""
        if self._timestamp_origin is None:
            last_timestamp: int = getattr(self._sender, _RTP_TIMESTAMP)
            self._timestamp_origin = (last_timestamp - frame.time) & 0xFFFFFFFF


class ViewerTrack(MediaStreamTrack):
    """The program's ready packets as a track for one aiortc sender.

    Live frames are sent as they come. Frames that wait in the queue (up to a second of them when a viewer joins) are
    spaced out, because 250 KB at once would overrun the buffers on the way.

    aiortc ends a sender silently when its track raises, so `on_ended` is called with the reason.
    """

    kind = "video"

    def __init__(
        self,
        subscribe: Callable[[], Subscription],
        *,
        clock: Clock,
        on_sent: Callable[[EncodedFrame], None],
        on_ended: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._subscribe = subscribe
        self._clock = clock
        self._on_sent = on_sent
        self._on_ended = on_ended
        self._subscription: Subscription | None = None
        self._last: EncodedFrame | None = None

    async def recv(self) -> av.Packet[Any]:
        """The next packet. A call means that the last packet was sent, because the sender is one loop."""
        try:
            if self._last is not None:
                self._on_sent(self._last)
            # Subscribes only when media can flow: frames queued during the handshake would be old by then.
            if self._subscription is None:
                self._subscription = self._subscribe()
            elif self._subscription.num_queued:
                await self._clock.sleep_until(self._clock.now() + BACKLOG_INTERVAL_S)
            self._last = await self._subscription.next()
            return self._last.packet
        except SubscriptionClosed:
            raise MediaStreamError from None
        except Exception:
            # Task boundary: this runs inside aiortc's sender task, which would end silently.
            logger.exception("! viewer track failed")
            self.stop()
            raise MediaStreamError from None

    def stop(self) -> None:
        """Called by us when the viewer is closed, and by aiortc's sender when its loop ends for whatever reason."""
        super().stop()
        if self._subscription is not None:
            self._subscription.close()
        self._on_ended("sender_ended")
