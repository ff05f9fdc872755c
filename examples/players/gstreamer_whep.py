#!/usr/bin/env python3
"""A WHEP player made of GStreamer's webrtcbin, for GStreamer before 1.24, which has no `whepsrc`.

    python3 gstreamer_whep.py http://127.0.0.1:8080/whep/my-show [--token TOKEN] [--sink "x264enc ! ..."] [--frames N]

Debian and Ubuntu: python3-gi gir1.2-gst-plugins-bad-1.0 gstreamer1.0-nice gstreamer1.0-plugins-good and -bad (its
openh264dec decodes; gstreamer1.0-libav is quicker). Waits for a stage that has not begun; leaves when it ends.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import gi

for name in ("Gst", "GstWebRTC", "GstSdp"):
    gi.require_version(name, "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

H264 = "application/x-rtp,media=video,encoding-name=H264,payload=102,clock-rate=90000,packetization-mode=(string)1"
# `name` in front of the sink counts pictures.
DECODE = "rtph264depay ! h264parse ! {decoder} ! videoconvert ! identity name=counter signal-handoffs=true ! {sink}"


class Player:
    def __init__(self, url: str, token: str | None, sink: str, num_frames: int) -> None:
        self.url, self.token, self.sink, self.num_frames = url, token, sink, num_frames
        self.location: str | None = None
        self.num_seen = 0
        self.loop = GLib.MainLoop()
        self.pipeline = Gst.Pipeline.new()
        self.webrtc = Gst.ElementFactory.make("webrtcbin")
        self.webrtc.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self.pipeline.add(self.webrtc)
        direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
        self.webrtc.emit("add-transceiver", direction, Gst.Caps.from_string(H264 + ",profile-level-id=(string)42e01f"))
        self.webrtc.connect("pad-added", self.on_pad)
        self.webrtc.connect("notify::ice-gathering-state", lambda *_: GLib.idle_add(self.offer_when_gathered))
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", self.on_error)

    def run(self) -> int:
        """Plays until the stage ends, Ctrl-C, or `num_frames` pictures; returns the number of pictures."""
        self.pipeline.set_state(Gst.State.PLAYING)
        self.webrtc.emit("create-offer", None, Gst.Promise.new_with_change_func(self.on_offer))
        try:
            self.loop.run()
        except KeyboardInterrupt:
            pass
        finally:
            if self.location is not None:
                self.request("DELETE", self.location)
            self.pipeline.set_state(Gst.State.NULL)
        return self.num_seen

    def on_offer(self, promise: Any) -> None:
        reply = promise.get_reply()  # owns the offer, so it must live until the offer is set
        self.webrtc.emit("set-local-description", reply.get_value("offer"), Gst.Promise.new())

    def offer_when_gathered(self) -> bool:
        """Posts the offer when it has all candidates, so that none need be trickled."""
        is_complete = self.webrtc.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE
        if is_complete and self.location is None:
            offer = self.webrtc.get_property("local-description")
            try:
                answer, self.location = self.post(offer.sdp.as_text())
            except OSError as error:
                print(f"{self.url}: {error}", file=sys.stderr)
                self.loop.quit()
                return GLib.SOURCE_REMOVE
            _, sdp = GstSdp.SDPMessage.new_from_text(answer)
            description = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
            self.webrtc.emit("set-remote-description", description, Gst.Promise.new())
        return GLib.SOURCE_REMOVE

    def on_pad(self, _: Any, pad: Any) -> None:
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        decoder = next(name for name in ("avdec_h264", "openh264dec") if Gst.ElementFactory.find(name))
        chain = Gst.parse_bin_from_description(DECODE.format(decoder=decoder, sink=self.sink), True)
        chain.get_by_name("counter").connect("handoff", self.on_picture)
        self.pipeline.add(chain)
        chain.sync_state_with_parent()
        pad.link(chain.get_static_pad("sink"))

    def on_picture(self, *_: Any) -> None:
        """On GStreamer's thread: some more may come before the loop has ended."""
        if self.num_seen == self.num_frames > 0:
            return
        self.num_seen += 1
        if self.num_seen == self.num_frames:
            GLib.idle_add(self.loop.quit)

    def on_error(self, _: Any, message: Any) -> None:
        print(message.parse_error()[0].message, file=sys.stderr)
        self.loop.quit()

    # --- HTTP -----------------------------------------------------------------------------------------------------

    def post(self, offer: str) -> tuple[str, str]:
        while True:
            try:
                with self.request("POST", self.url, offer) as response:
                    return response.read().decode(), urllib.parse.urljoin(self.url, response.headers["Location"])
            except urllib.error.HTTPError as error:
                if "Retry-After" not in error.headers:
                    raise
                time.sleep(float(error.headers["Retry-After"]))

    def request(self, method: str, url: str, body: str | None = None) -> Any:
        headers = {"Content-Type": "application/sdp"} | (
            {"Authorization": f"Bearer {self.token}"} if self.token else {}
        )
        asked = urllib.request.Request(url, body and body.encode(), headers, method=method)
        return urllib.request.urlopen(asked)


def main() -> None:
    parser = argparse.ArgumentParser(description="Play a WHEP address with GStreamer.")
    parser.add_argument("url")
    parser.add_argument("--token")
    parser.add_argument("--sink", default="autovideosink", help="any pipeline that takes raw video")
    parser.add_argument("--frames", type=int, default=0, help="leave after so many pictures (default: never)")
    options = parser.parse_args()
    if not re.match(r"https?://", options.url):
        parser.error("expected an http address")
    Gst.init(None)
    num_seen = Player(options.url, options.token, options.sink, options.frames).run()
    print(f"{num_seen} pictures")


if __name__ == "__main__":
    main()
