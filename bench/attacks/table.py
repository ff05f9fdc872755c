"""All attacks by name: what the attacker has, and where it comes from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.attacks import media, requests, sockets
from bench.attacks.attacker import Attacker, Outcome


@dataclass(frozen=True, slots=True)
class Attack:
    """`is_stranger`: without a token. `flags`: of its server, beside the usual ones. `needs_no_token`: that server has
    none, and serves loopback only.
    """

    run: Callable[[Attacker], Awaitable[Outcome]]
    is_stranger: bool = False
    flags: tuple[str, ...] = ()
    needs_no_token: bool = False


_TRUSTS_ANOTHER = ("--trusted-proxies", "198.51.100.7")

ATTACKS: dict[str, Attack] = {
    "nobody": Attack(requests.nobody, is_stranger=True),
    # Strangers, by HTTP
    "inflated-bodies": Attack(requests.inflated_bodies, is_stranger=True),
    "half-heads": Attack(requests.half_heads, is_stranger=True),
    "silent": Attack(requests.silent, is_stranger=True),
    "bad-heads": Attack(requests.bad_heads, is_stranger=True),
    "endless-requests": Attack(requests.endless_requests, is_stranger=True),
    "unread-answers": Attack(requests.unread_answers, is_stranger=True),
    "unknown-scripts": Attack(requests.unknown_scripts, is_stranger=True),
    "guessed-tokens": Attack(requests.guessed_tokens, is_stranger=True),
    "forged-address": Attack(requests.guesses_with_forged_address, is_stranger=True, flags=_TRUSTS_ANOTHER),
    "forged-secrets": Attack(requests.forged_secrets, is_stranger=True),
    "rebound-hosts": Attack(requests.rebound_hosts, is_stranger=True, needs_no_token=True),
    "connections": Attack(requests.connections_of_one_peer, is_stranger=True),
    # Strangers, by WebSocket and UDP
    "reconnecting": Attack(sockets.reconnecting, is_stranger=True),
    "messages-no-token": Attack(sockets.messages, is_stranger=True),
    "pings-no-token": Attack(sockets.pings, is_stranger=True),
    "large-frames-no-token": Attack(sockets.large_frames, is_stranger=True),
    "watch-no-token": Attack(sockets.viewers_that_send, is_stranger=True),
    "stray-packets": Attack(media.stray_packets, is_stranger=True),
    # Holders of a token, by HTTP
    "half-bodies": Attack(requests.half_bodies),
    "aborted-uploads": Attack(requests.aborted_uploads),
    "other-sites": Attack(requests.other_sites),
    "snapshots": Attack(requests.snapshots),
    "recordings": Attack(requests.recordings),
    "ranges": Attack(requests.ranges_of_a_recording),
    # Holders, by WebSocket
    "messages": Attack(sockets.messages),
    "mixed-messages": Attack(sockets.mixed_messages),
    "pings": Attack(sockets.pings),
    "large-frames": Attack(sockets.large_frames),
    "endless-frames": Attack(sockets.large_frames_unread),
    "fragments": Attack(sockets.fragments),
    "sending-watchers": Attack(sockets.viewers_that_send),
    "unreading-viewers": Attack(sockets.unreading_viewers),
    "unreading-controller": Attack(sockets.unreading_controller),
    "stages": Attack(sockets.stages),
    "left-stages": Attack(sockets.left_stages),
    "prompts": Attack(sockets.prompts),
    "guessed-resumes": Attack(sockets.guessed_resumes),
    "taken-names": Attack(sockets.taken_names),
    # Holders, by WebRTC
    "sending-viewer": Attack(media.sending_viewer),
    "quadratic-offer": Attack(media.quadratic_offer),
    "large-offers": Attack(media.large_offers),
    "unconnected-offers": Attack(media.offers_that_never_connect),
    "unwatched-places": Attack(media.unwatched_places),
    "calls": Attack(media.calls),
    "own-offers": Attack(media.own_offers),
    "candidates": Attack(media.candidates),
    "feedback": Attack(media.feedback),
    "media-to-us": Attack(media.media_to_us),
    "endless-message": Attack(media.endless_message),
    "many-streams": Attack(media.many_streams),
    "channel-messages": Attack(media.channel_messages),
}
