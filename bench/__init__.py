"""Measurements of the whole product, each with its command. RESULTS.md has the results."""
