"""SDP in and out: what an offer must be, what of it is used, and the names of what is wrong with it.

Pure: no connection is made here. `peer.py` checks an offer with `checked_offer` before it opens any socket for it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Literal

from aiortc import RTCIceCandidate, RTCRtpCodecCapability, RTCRtpSender
from aiortc.codecs import CODECS
from aiortc.rtcpeerconnection import find_common_codecs
from aiortc.sdp import MediaDescription, SessionDescription, candidate_from_sdp

from server.media.rendition import Codec

# A browser offers one to three media sections (video, audio, data). Each may cost a socket for each local address.
MAX_MEDIA_SECTIONS = 4
# A host with many interfaces has about ten; each is a check every 20 ms.
MAX_CANDIDATES = 32
# Constrained baseline is what we send; plain baseline names a superset that some receivers offer instead.
_PROFILES = ("42e01f", "42001f")

_SETUP_ACTPASS = re.compile(r"^a=setup:actpass(?=\r?$)", re.MULTILINE)

OfferErrorCode = Literal["invalid_sdp", "no_video", "no_video_codec", "too_many_viewers"]


class OfferError(ValueError):
    """The viewer's offer cannot be answered. The fault is the client's, but for `too_many_viewers`."""

    def __init__(self, code: OfferErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


Takes = Callable[[str], bool]  # whether an address may be tried


def _any_address(address: str) -> bool:
    return True


def checked_offer(sdp: str, takes: Takes = _any_address) -> str:
    """The offer as we use it, without candidates that would block, be looked up, or are not ours to try.

    Raises `OfferError`.
    """
    usable = _with_us_as_dtls_server(_without_unusable_candidates(sdp, takes))
    description = _parsed(usable)
    if not 1 <= len(description.media) <= MAX_MEDIA_SECTIONS:
        raise OfferError(
            "no_video" if not description.media else "invalid_sdp",
            f"expected 1 to {MAX_MEDIA_SECTIONS} media sections, got {len(description.media)}",
        )
    for media in description.media:
        _check_transport(media)
    videos = [media for media in description.media if media.kind == "video"]
    if not videos or videos[0].port == 0 or videos[0].direction in ("sendonly", "inactive"):
        raise OfferError("no_video", "expected a video section that can receive: a=recvonly or a=sendrecv")
    if not _common_codecs(videos[0]):
        expected = "H264 constrained baseline with packetization-mode=1, or VP8, among the codecs"
        raise OfferError("no_video_codec", f"expected {expected}")
    return usable


def checked_answer(sdp: str) -> str:
    """The answer to our own offer as we use it. Raises `OfferError`; the fault is the other side's."""
    usable = _without_unusable_candidates(sdp)
    videos = [media for media in _parsed(usable).media if media.kind == "video"]
    if not videos or videos[0].port == 0 or videos[0].direction in ("sendonly", "inactive"):
        raise OfferError("no_video", "the answer takes no video")
    if Codec.H264 not in _common_codecs(videos[0]):
        raise OfferError("no_video_codec", "the answer takes no H264")
    _check_transport(videos[0])
    return usable


def rejects_audio(answer_sdp: str) -> bool:
    """Whether an answer refuses an audio section that was offered (RFC 3264 section 6: port 0), or will not hear it."""
    return any(
        media.kind == "audio" and (media.port == 0 or media.direction in ("sendonly", "inactive"))
        for media in _parsed(answer_sdp).media
    )


def best_codec(offer: str) -> Codec:
    """Of an offer that was checked: H264 where the viewer has it, since then one encode serves all; else VP8."""
    video = next(media for media in SessionDescription.parse(offer).media if media.kind == "video")
    return Codec.H264 if Codec.H264 in _common_codecs(video) else Codec.VP8


def preferred_codecs(codec: Codec) -> list[RTCRtpCodecCapability]:
    """This codec (H264 with packetization mode 1) and its retransmission, for `setCodecPreferences`."""
    codecs = RTCRtpSender.getCapabilities("video").codecs
    if codec is Codec.H264:
        chosen = [c for profile in _PROFILES for c in codecs if c.parameters.get("profile-level-id") == profile]
    else:
        chosen = [c for c in codecs if c.mimeType.lower() == "video/vp8"]
    return [*chosen, *(c for c in codecs if c.mimeType.lower() == "video/rtx")]


def parsed_candidate(
    candidate: str,
    sdp_mid: str | None,
    sdp_mline_index: int | None,
    takes: Takes = _any_address,
) -> RTCIceCandidate | None:
    """A trickled candidate; None if it is one of those that we leave out. Raises `OfferError`."""
    text = candidate.removeprefix("a=").removeprefix("candidate:").strip()
    if not text or not _is_usable(text, takes):
        return None
    if sdp_mid is None and sdp_mline_index is None:
        raise OfferError("invalid_sdp", "expected sdp_mid or sdp_mline_index beside the candidate")
    try:
        parsed = candidate_from_sdp(text)
    except (ValueError, AssertionError, IndexError) as error:
        raise OfferError("invalid_sdp", "expected an ICE candidate line (RFC 8839 section 5.1)") from error
    parsed.sdpMid, parsed.sdpMLineIndex = sdp_mid, sdp_mline_index
    return parsed


def _without_unusable_candidates(sdp: str, takes: Takes = _any_address) -> str:
    """Drop unusable candidates, those beyond the bound, and the end of candidates.

    A browser hides its addresses behind `.local` names; looking one up blocks for a second and finds nothing in a
    container. Its own checks reach us all the same. The end of candidates goes too: after it, aioice would give up
    before those checks arrive. Our own time limit decides instead.
    """
    lines, num_candidates = [], 0
    for line in sdp.splitlines():
        if line.startswith("a=end-of-candidates"):
            continue
        if line.startswith("a=candidate:"):
            if num_candidates >= MAX_CANDIDATES or not _is_usable(line.removeprefix("a=candidate:"), takes):
                continue
            num_candidates += 1
        lines.append(line)
    return "".join(f"{line}\r\n" for line in lines)


def _with_us_as_dtls_server(sdp: str) -> str:
    """Where the viewer leaves us the choice, it begins the handshake.

    As DTLS client aiortc takes servers with ECDSA certificates only, and GStreamer's webrtcbin (1.22) has an RSA one.
    As DTLS server it takes every client.
    """
    return _SETUP_ACTPASS.sub("a=setup:active", sdp)


def _is_usable(candidate: str, takes: Takes) -> bool:
    """UDP to a literal address: no names to look up, no TCP (which aioice does not speak)."""
    fields = candidate.split()
    if len(fields) < 8 or fields[2].lower() != "udp":
        return False
    try:
        ipaddress.ip_address(fields[4])
    except ValueError:
        return False
    return takes(fields[4])


def _parsed(sdp: str) -> SessionDescription:
    if not sdp.startswith("v=0"):
        raise OfferError("invalid_sdp", "expected SDP, which begins with v=0 (RFC 8866)")
    try:
        description = SessionDescription.parse(sdp)
    except Exception as error:  # the parser lets whatever went wrong inside it through; all of it means the same
        raise OfferError("invalid_sdp", f"the SDP cannot be read ({type(error).__name__})") from error
    return description


def _check_transport(media: MediaDescription) -> None:
    if not media.ice or not media.ice.usernameFragment or not media.ice.password:
        raise OfferError("invalid_sdp", f"expected ICE credentials (ice-ufrag, ice-pwd) for {media.kind}")
    if not media.dtls or not media.dtls.fingerprints:
        raise OfferError("invalid_sdp", f"expected a DTLS fingerprint for {media.kind}")
    if media.kind in ("audio", "video") and not media.rtcp_mux:
        raise OfferError("invalid_sdp", f"expected a=rtcp-mux for {media.kind}")
    if media.kind not in ("audio", "video", "application"):
        raise OfferError("invalid_sdp", f"expected audio, video or application sections, got {media.kind}")


def _common_codecs(media: MediaDescription) -> set[Codec]:
    common = {codec.name.upper() for codec in find_common_codecs(CODECS["video"], media.rtp.codecs)}
    return {codec for codec in Codec if codec.value in common}
