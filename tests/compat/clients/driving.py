"""What the drivers of other people's clients have in common. Runs in their environments."""

import sys


class Recorder:
    """Stands before a client and notes which of its calls are made.

    Args:
        client: The client.
        left_out: Calls that are not made, with the reason.
    """

    def __init__(self, client, **left_out):
        self._client = client
        self._left_out = left_out
        self._seen = set()

    def __getattr__(self, name):
        self._seen.add(name)
        return getattr(self._client, name)

    def tell(self):
        """Print how many calls were made, or exit with those that were not."""
        kind = type(self._client)
        offered = {
            name
            for name in dir(kind)
            if not name.startswith("_") and callable(getattr(kind, name, None))
        }
        missing = sorted(offered - self._seen - set(self._left_out))
        unknown = sorted(set(self._left_out) - offered)
        if missing or unknown:
            sys.exit(f"not called: {missing}; left out and not there: {unknown}")
        sys.stdout.write(f"{len(offered - set(self._left_out))} calls work\n")


def equal(found, wanted):
    """Compare, and say what was found."""
    if found != wanted:
        raise AssertionError(f"{found!r} instead of {wanted!r}")


def refused(kind, call, *arguments, **options):
    """See to it that a call is refused."""
    try:
        call(*arguments, **options)
    except kind as error:
        return error
    raise AssertionError(f"{call} was not refused")
