"""Coordinator: services, fair fenced locks, elections and topics on one replicated keyspace."""

__version__ = "0.1.0"
