"""Fragmented MP4: for viewers over WebSocket, and in recordings."""
