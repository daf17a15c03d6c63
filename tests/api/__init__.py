"""Tests of the API: a real member behind real sockets."""
