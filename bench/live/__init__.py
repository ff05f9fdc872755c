"""Benches of a whole server that runs, most of them with real viewers."""
