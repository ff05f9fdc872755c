"""Webhooks: tells a key's own addresses when a clip has ended, at least once, signed."""
