"""Programs to look at and to try: a small order system, and a cluster on one machine."""
