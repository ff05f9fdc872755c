"""The engine process and its supervisor, and the wire between them."""
