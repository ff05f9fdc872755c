"""WebRTC: the viewers' peers (offers, ICE, senders that pace and adapt), and pushes by WHIP."""
