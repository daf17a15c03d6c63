"""The dashboard in a real browser, against real members."""
