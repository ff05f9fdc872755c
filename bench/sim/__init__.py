"""The arbiter on a virtual clock, and what feeds and plots that."""
