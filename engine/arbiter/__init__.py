"""Decides which piece of work runs next, and estimates when a prompt will be done. Pure, with injected time."""
