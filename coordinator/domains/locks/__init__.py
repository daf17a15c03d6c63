"""Locks: exclusive, fair, fenced."""
