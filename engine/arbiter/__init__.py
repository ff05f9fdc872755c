"""Whose piece of work runs next, and when it would be done. Pure, with injected time."""
