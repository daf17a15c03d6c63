#!/bin/sh
# Writes requirements.lock (what runs), requirements-dev.lock (what tests) and
# requirements-dashboard.lock (what builds the dashboard), with hashes and without any index address,
# for Python 3.11 and newer on every platform. Arguments go to uv (--upgrade).
set -eu

compile() {
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-header --no-annotate --no-emit-package coordinator-sdk "$@"
}

compile pyproject.toml --group build --output-file requirements.lock "$@"
compile pyproject.toml --group dev --constraints requirements.lock \
    --output-file requirements-dev.lock "$@"
compile --group dashboard --output-file requirements-dashboard.lock "$@"

if grep -nE '://|^-|file:|^\.|^/' requirements*.lock; then
    echo "a lock file names an address or a path: see the lines above" >&2
    exit 1
fi
