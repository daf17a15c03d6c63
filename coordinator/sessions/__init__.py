"""Sessions: a lease that knows who and where its user is, and what hangs on it. Pure."""
