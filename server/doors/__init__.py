"""The server's entry points: HTTP, WebSocket, calls, WHEP, watch and the pages."""
