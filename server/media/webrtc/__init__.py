"""Peers: offers, ICE, and senders that pace and adapt; and pushes by WHIP."""
