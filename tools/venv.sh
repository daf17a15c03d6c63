#!/bin/sh
# Makes or refreshes .venv from a lock file: `sh tools/venv.sh run|dev`. Before that takes its time,
# `sh tools/venv.sh check PORT` says what would stop the coordinator from running.
#
# Every failure prints one line that mends it. PYTHON names the interpreter (default: python3 when it
# is 3.11 or newer, else the newest of python3.14 ... python3.11).
set -eu

kind=$1
case $kind in
run) lock=requirements.lock ;;
dev) lock=requirements-dev.lock ;;
check) lock="" ;;
*) echo "usage: sh tools/venv.sh run|dev|check PORT" >&2; exit 2 ;;
esac

fail() {
    echo "$1" >&2
    exit 1
}

recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ] && [ "$PYTHON" != python3 ]; then
        recent "$PYTHON" || fail "PYTHON=$PYTHON is not Python 3.11 or newer: name one that is, as in \`make run PYTHON=/usr/bin/python3.12\`."
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if recent "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is missing: install it (Debian, Ubuntu: \`apt-get install python3 python3-venv\`; macOS: \`brew install python@3.13\`) or name it with PYTHON=."
}

has_venv() {
    "$1" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
        fail "$1 has no venv module: install it (Debian, Ubuntu: \`apt-get install python3-venv\`)."
}

# A venv outlives neither its interpreter nor a move of the checkout: then it is made anew.
usable() {
    recent .venv/bin/python && [ "$(cat .venv/.home 2>/dev/null)" = "$PWD" ]
}

if [ "$kind" = check ]; then
    if usable; then
        python=.venv/bin/python
    else
        python=$(find_python)
        has_venv "$python"
    fi
    exec "$python" tools/check_port.py "$2"
fi

if ! usable; then
    python=$(find_python)
    has_venv "$python"
    rm -rf .venv
    echo "making .venv with $("$python" -V 2>&1)"
    "$python" -m venv .venv || {
        rm -rf .venv
        fail "$python -m venv .venv failed: see the lines above."
    }
    echo "$PWD" >.venv/.home
fi

echo "installing $lock"
PIP_DISABLE_PIP_VERSION_CHECK=1
export PIP_DISABLE_PIP_VERSION_CHECK
.venv/bin/python -m pip install --quiet --require-hashes -r "$lock" ||
    fail "the packages of $lock could not be installed: is the package index reachable (\`.venv/bin/pip config list\`)?"
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e sdk -e .
touch .venv/.installed-run
[ "$kind" = run ] || touch .venv/.installed-dev
