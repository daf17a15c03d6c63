"""Command lines: `coordinator`, the server, and `coordctl`, the client."""
