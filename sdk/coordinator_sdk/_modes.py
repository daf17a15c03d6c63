"""Kinds of calls; what a broken connection means for each is told in `_session`. Pure."""

from __future__ import annotations

READ, CHANGE, BEAT, NOTICE = 0, 1, 2, 3
"""A notice gets no answer."""
