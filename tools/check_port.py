"""Says with one line why the coordinator could not listen on a port: `check_port.py PORT`.

Runs on any Python 3, before the product's own packages are there.
"""

import socket
import sys


def main(text: str) -> str | None:
    """Return the one line that mends the port, or None when it is free."""
    if not text.isdigit() or not 0 < int(text) < 65536:
        return f"PORT={text} is no port: give a number from 1 to 65535, as in `make run PORT=2380`."
    port = int(text)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            return f"Port {port} needs root: take another, as in `make run PORT=2379`."
        except OSError:
            other = port + 10 if port < 65000 else 2379
            return (
                f"Port {port} is in use: stop what holds it (`lsof -i :{port}`) "
                f"or take another, as in `make run PORT={other}`."
            )
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
