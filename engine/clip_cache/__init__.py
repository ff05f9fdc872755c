"""A cache in front of an engine, for clips that were made before."""
