"""Where something enters: HTTP, WebSocket, calls, WHEP, watch and the pages, and who may."""
