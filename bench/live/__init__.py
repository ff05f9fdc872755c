"""Benches of a whole running server, most of them with real viewers."""
