"""Which parts of a stranger's SDP reach the parser, and which reach aiortc: bounds, directions, real offers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiortc.sdp
import pytest
from aiortc.sdp import SessionDescription

from server.media.video.rendition import Codec
from server.media.webrtc import signalling
from server.media.webrtc.signalling import MAX_ATTRIBUTES, OfferError, checked_answer, checked_offer

OFFERS = Path(__file__).parent.parent / "offers"
HEAD = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
TRANSPORT = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\na=fingerprint:sha-256 AB:CD\r\na=setup:actpass\r\n"
VP8 = "a=rtpmap:96 VP8/90000\r\n"


def section(kind: str, *lines: str, mid: str = "0") -> str:
    media = "9 UDP/DTLS/SCTP webrtc-datachannel" if kind == "application" else "9 UDP/TLS/RTP/SAVPF 96"
    return f"m={kind} {media}\r\na=mid:{mid}\r\n{TRANSPORT}a=rtcp-mux\r\n" + "".join(f"{line}\r\n" for line in lines)


def video(*lines: str) -> str:
    return section("video", *lines) + VP8


def directions(sdp: str) -> list[str]:
    return [media.direction for media in SessionDescription.parse(sdp).media if media.kind != "application"]


# --- only we send -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_session", "of_media", "expected"),
    [
        ("", "a=recvonly", "recvonly"),
        ("", "a=sendrecv", "recvonly"),
        ("", "", "recvonly"),  # both ways, if there is no direction (RFC 8866)
        ("a=recvonly", "", "recvonly"),
        ("a=sendrecv", "", "recvonly"),
        ("a=inactive", "a=sendrecv", "recvonly"),
        ("", "a=recvonly\r\na=sendrecv", "recvonly"),
        ("", "a=sendrecv:x", "recvonly"),  # aiortc takes this for one line
        ("", "a=recvonly\x0ba=sendrecv", "recvonly"),  # and this for two lines
    ],
)
def test_a_viewer_may_only_receive(of_session: str, of_media: str, expected: str) -> None:
    head = HEAD + (of_session + "\r\n" if of_session else "")
    offer = checked_offer(head + video(*([of_media] if of_media else [])))
    assert directions(offer.sdp) == [expected]


@pytest.mark.parametrize("direction", ["sendonly", "inactive"])
def test_the_sessions_direction_holds_for_a_video_without_one(direction: str) -> None:
    with pytest.raises(OfferError) as refusal:
        checked_offer(f"{HEAD}a={direction}\r\n" + video())
    assert refusal.value.code == "no_video"


@pytest.mark.parametrize(
    ("direction", "expected"),
    [("a=sendrecv", "recvonly"), ("a=sendonly", "inactive"), ("a=inactive", "inactive"), ("a=x", "recvonly")],
)
def test_a_viewer_may_not_send_sound_either(direction: str, expected: str) -> None:
    audio = section("audio", direction, "a=rtpmap:96 opus/48000/2", mid="1")
    offer = checked_offer(HEAD + video("a=recvonly") + audio)
    assert directions(offer.sdp) == ["recvonly", expected]
    assert offer.wants_audio is (expected == "recvonly")


@pytest.mark.parametrize("kind", ["video", "audio", "application"])
def test_a_second_section_of_a_kind_is_refused(kind: str) -> None:
    others = [section(one, "a=sendonly", mid=one) for one in ("video", "audio", "application")]
    with pytest.raises(OfferError) as refusal:
        checked_offer(HEAD + "".join(others) + section(kind, "a=sendonly", mid="second"))
    assert refusal.value.code == "invalid_sdp"
    assert refusal.value.message == "expected one section each of video, audio, application, got a second one"


def test_an_ingests_answer_makes_us_receive_nothing() -> None:
    h264 = "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id=42e01f"
    answer = HEAD + section("video", "a=sendrecv", h264) + section("audio", "a=sendonly", mid="1")
    checked = checked_answer(answer.replace("actpass", "active"))
    assert directions(checked.sdp) == ["recvonly", "inactive"]
    assert checked.rejects_audio


# --- what clients really send -------------------------------------------------------------------------------------


def offer_of(name: str) -> str:
    return (OFFERS / f"{name}.sdp").read_bytes().decode()


@pytest.mark.parametrize(
    ("name", "has_channel"), [("chromium_156", True), ("gstreamer_webrtcbin", False)], ids=["chromium", "gstreamer"]
)
def test_offers_of_real_clients_stay_far_below_the_bounds(name: str, has_channel: bool) -> None:
    text = offer_of(name)
    offer = checked_offer(text, takes_channel=True)
    assert (offer.codec, offer.wants_audio, offer.has_channel) == (Codec.H264, True, has_channel)
    assert len(text) * 3 < signalling.MAX_SDP_CHARACTERS and len(text.splitlines()) * 3 < signalling.MAX_SDP_LINES
    for one in text.split("m=")[1:]:
        for attribute, limit in MAX_ATTRIBUTES.items():
            assert one.count(f"a={attribute}:") * 2 <= limit, attribute


def test_aiortc_gets_each_of_our_codecs_once_and_no_other() -> None:
    text = offer_of("chromium_156")
    given = SessionDescription.parse(checked_offer(text, takes_channel=True).sdp)
    names = [codec.name for codec in given.media[0].rtp.codecs]
    assert sorted(names) == ["H264", "H264", "VP8", "rtx", "rtx", "rtx"]
    assert [media.rtp.muxId for media in given.media] == ["0", "1", "2"]
    assert given.media[0].ice.usernameFragment in text
    assert all(media.dtls.role == "client" for media in given.media)  # we are the DTLS server
    for takes_channel in (True, False):
        offer = checked_offer(text, takes_channel=takes_channel)
        assert checked_offer(offer.sdp, takes_channel=takes_channel).sdp == offer.sdp


@pytest.mark.parametrize("group", ["9 0", "0 9", "0 0", "9"])
def test_a_bundle_names_each_section_once_and_no_others(group: str) -> None:
    """aiortc would take the transport of a section that is missing, and could not even close such a connection."""
    offer = checked_offer(f"{HEAD}a=group:BUNDLE {group}\r\n" + video("a=recvonly"))
    assert SessionDescription.parse(offer.sdp).group[0].items == (["0"] if "0" in group else [])


def test_a_payload_type_beyond_seven_bits_is_refused() -> None:
    with pytest.raises(OfferError) as caught:
        checked_offer(HEAD + video("a=recvonly", "a=rtpmap:300 VP8/90000"))
    assert caught.value.code == "invalid_sdp"


# --- data channels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_viewers_data_channels_are_rejected_at_their_place(place: int) -> None:
    sections = [video("a=recvonly"), section("audio", "a=recvonly", "a=rtpmap:96 opus/48000/2", mid="1")]
    sections.insert(place, section("application", "a=sctp-port:5000", mid="data"))
    offer = checked_offer(f"{HEAD}a=group:BUNDLE data 0 1\r\n" + "".join(sections))
    assert not offer.has_channel and "application" not in offer.sdp
    assert "a=group:BUNDLE 0 1\r\n" in offer.sdp
    ours = HEAD + "a=group:BUNDLE 0 1\r\n" + video("a=sendonly") + section("audio", "a=sendonly", mid="1")
    answer = SessionDescription.parse(offer.answered(ours))
    assert [media.kind for media in answer.media] == [
        media.kind for media in SessionDescription.parse(HEAD + "".join(sections)).media
    ]
    rejected = answer.media[place]
    assert (rejected.port, rejected.profile, rejected.fmt) == (0, "UDP/DTLS/SCTP", ["webrtc-datachannel"])
    assert rejected.rtp.muxId == "data"
    assert answer.group[0].items == ["0", "1"]


def test_an_offer_without_data_channels_is_answered_as_aiortc_does() -> None:
    ours = HEAD + video("a=sendonly")
    assert checked_offer(HEAD + video("a=recvonly")).answered(ours) == ours
    caller = checked_offer(HEAD + video("a=recvonly") + section("application", mid="1"), takes_channel=True)
    assert caller.has_channel and caller.answered(ours) == ours


def test_data_channels_alone_are_no_video() -> None:
    with pytest.raises(OfferError) as refusal:
        checked_offer(HEAD + section("application"))
    assert refusal.value.code == "no_video"


# --- bounds before the parser -------------------------------------------------------------------------------------


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The texts that the parser got."""
    given: list[str] = []
    parse = SessionDescription.parse

    def count(sdp: str) -> SessionDescription:
        given.append(sdp)
        return parse(sdp)

    monkeypatch.setattr(signalling.SessionDescription, "parse", count)
    return given


TOO_MUCH = {
    "bytes": (HEAD + video("a=x:" + "y" * signalling.MAX_SDP_CHARACTERS), "32768 characters of SDP"),
    "lines": (HEAD + video(*["a=x"] * signalling.MAX_SDP_LINES), "1000 lines of SDP"),
} | {
    name: (HEAD + video(*[f"a={name}:{index} x" for index in range(limit + 1)]), f"{limit} lines a={name}")
    for name, limit in MAX_ATTRIBUTES.items()
}


@pytest.mark.parametrize("what", TOO_MUCH)
@pytest.mark.parametrize("check", [checked_offer, checked_answer])
def test_an_offer_above_a_bound_is_refused_before_it_is_parsed(what: str, check: Any, parses: list[str]) -> None:
    sdp, expected = TOO_MUCH[what]
    with pytest.raises(OfferError) as refusal:
        check(sdp)
    assert refusal.value.code == "invalid_sdp" and expected in refusal.value.message
    assert parses == []


def test_an_offer_is_parsed_once(parses: list[str]) -> None:
    checked_offer(offer_of("chromium_156"))
    assert len(parses) == 1


def test_the_parser_gets_no_ssrc_and_no_unused_feedback(parses: list[str]) -> None:
    lines = ["a=ssrc:1 cname:x", "a=ssrc-group:FID 1 2", "a=rtcp-fb:* nack", "a=rtcp-fb:* nack", "a=rtcp-fb:96 other"]
    checked_offer(HEAD + video(*lines))
    assert "ssrc" not in parses[0] and "other" not in parses[0]
    assert parses[0].count("a=rtcp-fb:") == 1


ATTRIBUTES = {
    "rtpmap": ["a=rtpmap:{n} VP8/90000", "a=rtpmap:{n} rtx/90000", "a=rtpmap:96 H264/90000", "a=rtpmap:{n} X/1"],
    "fmtp": ["a=fmtp:96 a=b", "a=fmtp:96 apt=97", "a=fmtp:96 packetization-mode=1;profile-level-id=42e01f"],
    "rtcp-fb": ["a=rtcp-fb:* nack", "a=rtcp-fb:{n} nack", "a=rtcp-fb:{n} goog-remb", "a=rtcp-fb:* x"],
    "extmap": ["a=extmap:{n} urn:x"],
    "ssrc": ["a=ssrc:{n} cname:x", "a=ssrc:{n} label:y"],
    "candidate": ["a=candidate:{n} 1 udp 1 192.0.2.1 5000 typ host", "a=candidate:x"],
}  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_an_offer_within_the_bounds_costs_a_bounded_number_of_steps(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts the quadratic parts: feedback objects made, and codecs visited for feedback and parameters."""
    counts = {"feedback": 0, "looked_at": 0}
    feedback, codec = aiortc.sdp.RTCRtcpFeedback, aiortc.sdp.RTCRtpCodecParameters

    def made(**fields: Any) -> Any:
        counts["feedback"] += 1
        return feedback(**fields)

    class Counted(codec):  # type: ignore[misc, valid-type]
        def __getattribute__(self, name: str) -> Any:
            counts["looked_at"] += name == "payloadType"
            return super().__getattribute__(name)

    monkeypatch.setattr(aiortc.sdp, "RTCRtcpFeedback", made)
    monkeypatch.setattr(aiortc.sdp, "RTCRtpCodecParameters", Counted)
    try:
        checked_offer(_scripted_offer(random.Random(seed)))
    except OfferError as refusal:
        assert refusal.code in ("invalid_sdp", "no_video", "no_video_codec")
    num_sections, rtpmaps = 3, MAX_ATTRIBUTES["rtpmap"]
    assert counts["feedback"] <= rtpmaps * len(signalling._OUR_FEEDBACK) * 2
    assert counts["looked_at"] <= rtpmaps * (MAX_ATTRIBUTES["rtcp-fb"] + num_sections * (MAX_ATTRIBUTES["fmtp"] + 2))


def _scripted_offer(rng: random.Random) -> str:
    """A random offer near the bounds, and sometimes beyond them."""
    sdp = HEAD
    for kind in rng.sample(["video", "audio", "application"], rng.randint(1, 3)):
        lines = ["a=rtpmap:96 VP8/90000"]
        for name, forms in ATTRIBUTES.items():
            most = MAX_ATTRIBUTES.get(name, 60)
            for _ in range(rng.choice([0, 3, most - 1, most - 1, most if rng.random() < 0.1 else 5])):
                lines.append(rng.choice(forms).format(n=rng.choice([96, 97, rng.randint(0, 127)])))
        sdp += section(kind, *lines, mid=kind)
    return sdp
