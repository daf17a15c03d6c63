"""Tests of TLS: files, contexts in memory, and one real listener."""
