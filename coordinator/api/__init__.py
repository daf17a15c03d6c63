"""The API: one table of operations, served over the WebSocket and over HTTP."""
