"""One stage's session and what it owns, and the registry of all sessions."""
