"""The world that the embedded model learned from, painted by plain code."""
