"""Checks offers and answers (SDP), rewrites them to the parts that we use, and names their errors.

Pure: no connection is made here. `checked_offer` and `checked_answer` read a stranger's text once. `peer.py` gives
aiortc our own text instead: the sections, codecs, addresses and keys that we use, in which only we send.

Bounds are checked before parsing. aiortc's parser is quadratic in three places (feedback times codecs, parameters times
codecs, ssrc times ssrc) and runs on the event loop: one offer of 72 KB stopped every show for 44 s.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from aiortc import RTCIceCandidate, RTCRtpCodecCapability, RTCRtpSender
from aiortc.codecs import CODECS, is_rtx
from aiortc.rtcpeerconnection import is_codec_compatible
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.sdp import DIRECTIONS, MediaDescription, SessionDescription, candidate_from_sdp

from server.media.video.rendition import Codec
from server.media.webrtc.addresses import is_public

# Chromium's offers, the longest that we know, have 6 to 10 KB in 300 lines.
MAX_SDP_CHARACTERS = 32 * 1024
MAX_SDP_LINES = 1000
# One section of each kind. A second video would be one that we receive, or need one more socket for each address.
_KINDS = ("video", "audio", "application")
_MEDIA = re.compile(r"m=\S+ [0-9]{1,5} \S+( \S+)+ ?")
# In one section. With RTCP on the same port there are 96 payload types (RFC 5761 section 4).
MAX_ATTRIBUTES = {"rtpmap": 96, "fmtp": 128, "rtcp-fb": 256, "extmap": 32}
# A host with many interfaces has about ten; each is a check every 20 ms.
MAX_CANDIDATES = 32
# So that one offer cannot make us probe a whole network behind our firewall. A laptop has two or three.
MAX_PRIVATE_CANDIDATES = 8
# Constrained baseline is what we send; plain baseline names a superset that some receivers offer instead.
_PROFILES = ("42e01f", "42001f")

# The direction asked for, and the one granted: the other side may receive, but never send (RFC 8829 section 5.3.1).
_WITHOUT_SENDING = {"sendrecv": "recvonly", "recvonly": "recvonly", "sendonly": "inactive", "inactive": "inactive"}
_TRANSPORT = ("a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:", "a=setup:")
_OUR_FEEDBACK = frozenset(
    " ".join(filter(None, (feedback.type, feedback.parameter)))
    for codec in CODECS["video"]
    for feedback in codec.rtcpFeedback
)

OfferErrorCode = Literal["invalid_sdp", "no_video", "no_video_codec", "too_many_viewers"]


class OfferError(ValueError):
    """The viewer's offer cannot be answered. The client is at fault, except for `too_many_viewers`."""

    def __init__(self, code: OfferErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


Takes = Callable[[str], bool]  # whether an address may be tried


def _any_address(address: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Rejected:
    """A section of an offer that aiortc never sees, and that our answer rejects."""

    place: int  # among all sections
    media: str  # the rest of its line `m=application PORT`
    mid: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A viewer's offer that can be answered: rewritten for aiortc, with what `peer` and `calls` need to know."""

    sdp: str
    codec: Codec  # H264 if the viewer has it, because then one encode serves all; else VP8
    wants_audio: bool
    has_channel: bool  # a place for data channels, which we take
    rejected: Rejected | None = None

    def answered(self, answer: str) -> str:
        """aiortc's answer, with the rejected section at its place (RFC 3264 section 6: port 0).

        It repeats ICE and DTLS, because aiortc as a viewer reads them in each section, also in a rejected one.
        """
        if self.rejected is None:
            return answer
        head, *sections = re.split(r"^(?=m=)", answer, flags=re.MULTILINE)
        transport = [line for line in sections[0].splitlines() if line.startswith(_TRANSPORT)]
        lines = [f"m=application 0 {self.rejected.media}", "c=IN IP4 0.0.0.0", *transport]
        if self.rejected.mid:
            lines.append(f"a=mid:{self.rejected.mid}")
        sections.insert(self.rejected.place, "".join(f"{line}\r\n" for line in lines))
        return head + "".join(sections)


@dataclass(frozen=True, slots=True)
class Answer:
    """An ingest's answer to our own offer, rewritten for aiortc."""

    sdp: str
    rejects_audio: bool


def checked_offer(sdp: str, takes: Takes = _any_address, *, takes_channel: bool = False) -> Offer:
    """What we use of an offer, without candidates that would block, need a lookup or are not allowed.

    Without `takes_channel`, its data channels are rejected: nobody would read what a viewer sends there, and aiortc
    would keep it. Raises `OfferError`.
    """
    description = _read(sdp, takes)
    rejected = None if takes_channel else _without_channel(description)
    if not description.media:
        raise OfferError("no_video", "expected a video section, got none")
    for media in description.media:
        _check_transport(media)
        _leave_us_the_dtls_server(media)
    common = _video_codecs(description, "expected a video section that can receive: a=recvonly or a=sendrecv")
    if not common:
        expected = "H264 constrained baseline with packetization-mode=1, or VP8, among the codecs"
        raise OfferError("no_video_codec", f"expected {expected}")
    return Offer(
        str(description),
        codec=Codec.H264 if Codec.H264 in common else Codec.VP8,
        wants_audio=wants_audio(description),
        has_channel=any(media.kind == "application" for media in description.media),
        rejected=rejected,
    )


def checked_answer(sdp: str) -> Answer:
    """What we use of the answer to our own offer. Raises `OfferError`; the fault is the other side's."""
    description = _read(sdp)
    if Codec.H264 not in _video_codecs(description, "the answer takes no video"):
        raise OfferError("no_video_codec", "the answer takes no H264")
    for media in description.media:
        if media.port != 0:
            _check_transport(media)
    return Answer(str(description), rejects_audio(description))


def rejects_audio(answer: SessionDescription) -> bool:
    """Whether an answer refuses an offered audio section (RFC 3264 section 6: port 0), or does not receive it."""
    return any(media.kind == "audio" and not _is_heard(media) for media in answer.media)


def wants_audio(offer: SessionDescription) -> bool:
    """Whether an offer has an audio section that can receive Opus."""
    return any(
        media.kind == "audio" and _is_heard(media) and any(codec.name.lower() == "opus" for codec in media.rtp.codecs)
        for media in offer.media
    )


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
    """A trickled candidate; None if it is one that we do not use. Raises `OfferError`."""
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


# --- reading ------------------------------------------------------------------------------------------------------


def _read(sdp: str, takes: Takes = _any_address) -> SessionDescription:
    """The SDP, read within the bounds and narrowed to what we use: few codecs, and only we send."""
    if not sdp.startswith("v=0"):
        raise OfferError("invalid_sdp", "expected SDP, which begins with v=0 (RFC 8866)")
    check_size(sdp)
    lines = sdp.splitlines()
    _check_bounds(lines)
    usable = "".join(f"{line}\r\n" for line in _usable(lines, takes))
    try:
        description = SessionDescription.parse(usable)
        _narrow(description, _direction_of_session(lines))
    except Exception as error:  # the parser raises errors of many kinds; all mean the same
        raise OfferError("invalid_sdp", f"the SDP cannot be read ({type(error).__name__})") from error
    return description


def check_size(sdp: str) -> None:
    """Checks an offer, an answer or a fragment before it is read. Raises `OfferError`."""
    if len(sdp) > MAX_SDP_CHARACTERS:
        raise OfferError("invalid_sdp", f"expected {MAX_SDP_CHARACTERS} characters of SDP at most, got {len(sdp)}")


def _check_bounds(lines: list[str]) -> None:
    if len(lines) > MAX_SDP_LINES:
        raise OfferError("invalid_sdp", f"expected {MAX_SDP_LINES} lines of SDP at most, got {len(lines)}")
    kinds: Counter[str] = Counter()
    attributes: Counter[str] = Counter()  # of this section
    for line in lines:
        if line.startswith("m="):
            if _MEDIA.fullmatch(line) is None:
                raise OfferError("invalid_sdp", "expected m=KIND PORT PROTOCOL FORMATS (RFC 8866 section 5.14)")
            kind = line[2:].partition(" ")[0]
            kinds[kind] += 1
            if kind not in _KINDS or kinds[kind] > 1:
                got = "a second one" if kind in _KINDS else kind[:32]
                raise OfferError("invalid_sdp", f"expected one section each of {', '.join(_KINDS)}, got {got}")
            attributes.clear()
        name = _attribute(line)
        attributes[name] += 1
        if attributes[name] > MAX_ATTRIBUTES.get(name, MAX_SDP_LINES):
            raise OfferError("invalid_sdp", f"expected {MAX_ATTRIBUTES[name]} lines a={name} in a section at most")


def _usable(lines: list[str], takes: Takes) -> Iterator[str]:
    """The lines for the parser: without candidates that are unusable or beyond the bound, without unused feedback and
    `ssrc`, and without the end of candidates.

    A browser hides its addresses behind `.local` names. A lookup of one blocks for a second and finds nothing in a
    container, and the browser's own checks reach us anyway. The end of candidates is left out, because aioice would
    give up after it before those checks arrive. Our own time limit decides instead.
    """
    num_candidates = num_private = 0
    feedback: set[str] = set()  # of this section
    for line in lines:
        match _attribute(line):
            case "end-of-candidates" | "ssrc" | "ssrc-group":
                continue
            case "candidate":
                if num_candidates >= MAX_CANDIDATES or not _is_usable(line.removeprefix("a=candidate:"), takes):
                    continue
                if not is_public(line.split()[4]):
                    if num_private >= MAX_PRIVATE_CANDIDATES:
                        continue
                    num_private += 1
                num_candidates += 1
            case "rtcp-fb":
                if line in feedback or line.partition(" ")[2] not in _OUR_FEEDBACK:
                    continue
                feedback.add(line)
            case _ if line.startswith("m="):
                feedback.clear()
        yield line


def _attribute(line: str) -> str:
    """`rtpmap` of `a=rtpmap:96 VP8/90000`, as aiortc finds it; empty for other lines."""
    return line[2:].partition(":")[0] if line.startswith("a=") else ""


def _direction_of_session(lines: list[str]) -> str:
    """The direction of sections that have none; both ways by default (RFC 8866 section 6.7). aiortc knows neither."""
    direction = "sendrecv"
    for line in lines:
        if line.startswith("m="):
            break
        if _attribute(line) in DIRECTIONS:
            direction = _attribute(line)
    return direction


def _narrow(description: SessionDescription, direction_of_session: str) -> None:
    """Narrows an offer to what we use. Whatever the other side would send, our answer refuses it."""
    description.host = None  # ICE alone decides where media is sent, and aiortc writes no names
    mids = [media.rtp.muxId for media in description.media]
    for group in description.group:
        # Each section once. aiortc would take the transport of a missing one, and close that of one named twice.
        group.items = [mid for mid in dict.fromkeys(group.items) if mid in mids]
    for media in description.media:
        media.host = media.rtcp_host = media.msid = None
        if not all(0 <= (codec.payloadType or 0) < 128 for codec in media.rtp.codecs):
            raise ValueError("a payload type has 7 bits")  # aiortc checks them in `m=` only, where ours are then
        if media.kind == "application":
            media.direction = None
            continue
        media.direction = _WITHOUT_SENDING[media.direction or direction_of_session]
        if codecs := _common_codecs(media):
            media.rtp.codecs = codecs
            media.fmt = [codec.payloadType for codec in codecs]
        if media.rtcp_mux:
            media.rtcp_port = 9  # makes aiortc write the rtcp-mux


def _without_channel(description: SessionDescription) -> Rejected | None:
    """Takes the section of data channels out, if there is one, and out of the bundle."""
    for place, media in enumerate(description.media):
        if media.kind == "application":
            del description.media[place]
            for group in description.group:
                group.items = [mid for mid in group.items if mid != media.rtp.muxId]
            return Rejected(place, " ".join([media.profile, *map(str, media.fmt)]), media.rtp.muxId)
    return None


def _common_codecs(media: MediaDescription) -> list[RTCRtpCodecParameters]:
    """The first offered codec that matches each codec of aiortc, and its retransmission, in the order offered."""
    common: dict[int | None, RTCRtpCodecParameters] = {}  # by payload type
    found: set[int] = set()  # aiortc's codecs, by index
    resent: set[object] = set()  # payload types that have a retransmission
    for codec in media.rtp.codecs:
        if is_rtx(codec):
            original = codec.parameters.get("apt")
            if original in common and original not in resent:
                resent.add(original)
                common.setdefault(codec.payloadType, codec)
            continue
        for place, ours in enumerate(CODECS[media.kind]):
            if place not in found and is_codec_compatible(ours, codec):
                found.add(place)
                codec.rtcpFeedback = [one for one in ours.rtcpFeedback if one in codec.rtcpFeedback]
                common.setdefault(codec.payloadType, codec)
                break
    return list(common.values())


def _video_codecs(description: SessionDescription, otherwise: str) -> set[Codec]:
    """The codecs in which the other side can receive video. Raises `OfferError` (`no_video`) if it receives none."""
    video = next((media for media in description.media if media.kind == "video"), None)
    if video is None or not _is_heard(video):
        raise OfferError("no_video", otherwise)
    names = {codec.name.upper() for codec in _common_codecs(video)}
    return {codec for codec in Codec if codec.value in names}


def _is_heard(media: MediaDescription) -> bool:
    return media.port != 0 and media.direction in ("recvonly", "sendrecv")


def _leave_us_the_dtls_server(media: MediaDescription) -> None:
    """If the viewer leaves us the choice, makes it the DTLS client, which begins the handshake.

    As DTLS client aiortc accepts only servers with ECDSA certificates, and GStreamer's webrtcbin (1.22) has an RSA one.
    As DTLS server it accepts every client.
    """
    if media.dtls is not None and media.dtls.role == "auto":
        media.dtls.role = "client"


def _is_usable(candidate: str, takes: Takes) -> bool:
    """Whether it is UDP to a literal address: no names to look up, no TCP (which aioice does not support)."""
    fields = candidate.split()
    if len(fields) < 8 or fields[2].lower() != "udp":
        return False
    try:
        ipaddress.ip_address(fields[4])
    except ValueError:
        return False
    return takes(fields[4])


def _check_transport(media: MediaDescription) -> None:
    if not media.ice or not media.ice.usernameFragment or not media.ice.password:
        raise OfferError("invalid_sdp", f"expected ICE credentials (ice-ufrag, ice-pwd) for {media.kind}")
    if not media.dtls or not media.dtls.fingerprints:
        raise OfferError("invalid_sdp", f"expected a DTLS fingerprint for {media.kind}")
    if media.kind in ("audio", "video") and not media.rtcp_mux:
        raise OfferError("invalid_sdp", f"expected a=rtcp-mux for {media.kind}")
