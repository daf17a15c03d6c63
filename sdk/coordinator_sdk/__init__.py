"""The Python client of Coordinator: service discovery, locks, elections and topics."""
