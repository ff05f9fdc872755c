"""Benches of the engine and the models alone."""
