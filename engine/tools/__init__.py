"""Commands around the engine that need no server."""
