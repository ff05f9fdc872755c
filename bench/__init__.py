"""Measurements of the whole product, each with its command; results are kept in RESULTS.md."""
