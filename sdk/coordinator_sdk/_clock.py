"""The client's clock."""

from __future__ import annotations

import time

_boottime = getattr(time, "CLOCK_BOOTTIME", None)


def now() -> float:
    """Seconds of a clock that never goes back and, where there is one, counts suspend."""
    return time.monotonic() if _boottime is None else time.clock_gettime(_boottime)
