"""The tests: folders mirror the source; beside them property, simulation, chaos and the rest.

Programs that are started here find the world as from a terminal, wherever the tests were started:
compiled modules, for compiling takes a server longer than starting, and Ctrl-C as it comes, for a
shell that starts something in the background lets all below it ignore that.
"""

import os
import signal

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
