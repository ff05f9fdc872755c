"""Hands a program's Opus packets to all listeners; `AudioTrack` feeds them to aiortc's sender.

`audio` puts packets in; each viewer's `AudioTrack` takes them out of its own bounded queue. Runs on the event loop.
Drop rule: a viewer that falls behind by half a second loses the oldest packet; its decoder conceals that.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import av
from aiortc import RTCRtpSender, RTCRtpTransceiver
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

logger = logging.getLogger(__name__)

Packet: TypeAlias = "av.Packet[Any]"
MAX_QUEUED_PACKETS = 25


class AudioFanout:
    """Hands every packet to every listener. `on_changed` is called when the first listener comes and the last goes."""

    def __init__(self, on_changed: Callable[[], None]) -> None:
        self._on_changed = on_changed
        self._queues: set[AudioQueue] = set()
        self.packets_dropped = 0

    @property
    def num_listeners(self) -> int:
        return len(self._queues)

    def put(self, packet: Packet) -> None:
        """The packet is shared by all listeners and never changed."""
        for queue in self._queues:
            self.packets_dropped += queue.put(packet)

    def subscribe(self) -> AudioQueue:
        queue = AudioQueue()
        self._queues.add(queue)
        if len(self._queues) == 1:
            self._on_changed()
        return queue

    def unsubscribe(self, queue: AudioQueue) -> None:
        queue.close()
        if queue in self._queues:
            self._queues.remove(queue)
            if not self._queues:
                self._on_changed()

    def close(self) -> None:
        for queue in list(self._queues):
            self.unsubscribe(queue)


class AudioQueue:
    """One listener's packets; see the module for its bound and drop rule. One task takes from it."""

    def __init__(self) -> None:
        self._packets: deque[Packet] = deque()
        self._changed = asyncio.Event()
        self._is_closed = False

    def put(self, packet: Packet) -> int:
        """Queue a packet; returns how many packets this drops."""
        num_dropped = 0
        if len(self._packets) >= MAX_QUEUED_PACKETS:
            self._packets.popleft()
            num_dropped = 1
        self._packets.append(packet)
        self._changed.set()
        return num_dropped

    async def next(self) -> Packet | None:
        """The next packet; None when the queue is closed. Cancelling it loses nothing."""
        while not self._packets and not self._is_closed:
            self._changed.clear()
            await self._changed.wait()
        return None if self._is_closed else self._packets.popleft()

    def close(self) -> None:
        self._is_closed = True
        self._changed.set()


class AudioTrack(MediaStreamTrack):
    """The program's sound as a track for one aiortc sender, which asks for a packet and sends it, in a loop.

    While there is no music it gives nothing, and nothing is sent: receivers take that for silence.
    """

    kind = "audio"

    def __init__(self, fanout: AudioFanout) -> None:
        super().__init__()
        self._fanout = fanout
        self._queue: AudioQueue | None = None

    async def recv(self) -> Packet:
        # Subscribes only when media can flow, so that nothing is encoded before.
        if self._queue is None:
            if self.readyState != "live":
                raise MediaStreamError
            self._queue = self._fanout.subscribe()
        packet = await self._queue.next()
        if packet is None:
            raise MediaStreamError
        return packet

    def stop(self) -> None:
        """Called by us when the viewer is closed, and by aiortc's sender when its loop ends for whatever reason."""
        super().stop()
        if self._queue is not None:
            self._fanout.unsubscribe(self._queue)


def add_audio(connection: Any, fanout: AudioFanout) -> AudioTrack:
    """Makes a connection send the program's sound. Call it before the offer or answer; the caller stops the track."""
    track = AudioTrack(fanout)
    transceiver: RTCRtpTransceiver = connection.addTransceiver(track, direction="sendonly")
    codecs = RTCRtpSender.getCapabilities("audio").codecs
    transceiver.setCodecPreferences([codec for codec in codecs if codec.mimeType.lower() == "audio/opus"])
    return track
