"""One client process each: what an application in Python would use to talk to that server.

All but `ours` run in the environment that tools/bench_peers.sh makes, and import nothing of the
project but the load and the measuring.
"""
