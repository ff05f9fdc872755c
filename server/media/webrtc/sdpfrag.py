"""Reads trickled candidates from an SDP fragment (RFC 8840, section 9), for `whep.py`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from server.media.webrtc.signalling import MAX_CANDIDATES, check_size

_UFRAG = "a=ice-ufrag:"
_MID = "a=mid:"
_CANDIDATE = "a=candidate:"


@dataclass(frozen=True, slots=True)
class FragmentCandidate:
    """One line `candidate:…`, and its media section by name and number."""

    text: str
    mid: str | None
    mline_index: int


@dataclass(frozen=True, slots=True)
class Fragment:
    ufrags: frozenset[str]
    candidates: tuple[FragmentCandidate, ...]  # `MAX_CANDIDATES` at most; a peer takes no more


def ufrags(sdp: str) -> frozenset[str]:
    """The `ice-ufrag`s of an offer or a fragment."""
    return frozenset(line.removeprefix(_UFRAG).strip() for line in sdp.splitlines() if line.startswith(_UFRAG))


def parsed(fragment: str) -> Fragment:
    """What we use of a fragment. Nothing else that it holds is an error (section 9.2).

    Raises `OfferError` if it is larger than an offer may be.
    """
    check_size(fragment)
    candidates: list[FragmentCandidate] = []
    mid: str | None = None
    mline_index = -1
    for line in fragment.splitlines():
        if line.startswith("m="):
            mid, mline_index = None, mline_index + 1
        elif line.startswith(_MID):
            mid = line.removeprefix(_MID).strip()
        elif line.startswith(_CANDIDATE) and len(candidates) < MAX_CANDIDATES:
            candidates.append(FragmentCandidate(line.removeprefix("a=").strip(), mid, max(mline_index, 0)))
    return Fragment(ufrags(fragment), tuple(candidates))
