"""The one asyncio loop around a replica: disks, peers, clocks, and the people who wait."""
