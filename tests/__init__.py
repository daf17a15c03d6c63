"""The tests: folders mirror the source; beside them property, simulation, chaos and the rest.

Servers that are started here find themselves compiled, as where the program is installed, whatever
the environment says: compiling takes them longer than starting.
"""

import os

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
