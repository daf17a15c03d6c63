#!/bin/sh
# Asks every operation of the OpenAPI document what nobody meant, and counts server errors: of a
# member of its own, first with authentication off, then as root. schemathesis has an environment of
# its own, made when it is first needed.
#
#   tools/fuzz_api.sh [examples per operation] [options of schemathesis ...]
#
# Streams, which do not end, and what takes the member away from under the test are asked in the end,
# through a proxy that ends them, each group of a member of its own.
set -eu

examples=${1:-100}
[ $# -gt 0 ] && shift
python=${PYTHON:-python3}
folder=.data/fuzz-api
wanted='schemathesis==4.32.5'
port=${PORT:-23790}
peer_port=$((port + 1))

if [ "$(cat "$folder/venv/.made" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$folder/venv"
    mkdir -p "$folder"
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$wanted"
    echo "$wanted" >"$folder/venv/.made"
fi

membership='members_add members_remove members_update cluster_move_leader'
authentication='auth_enable auth_disable auth_init auth_logout'
streams='maintenance_snapshot
watch_create services_watch topics_subscribe elections_observe cluster_watch'
secret='correct horse battery staple'

folders=$(mktemp -d)
members=''
proxy=''
trap 'kill $members $proxy; wait $members; rm -rf "$folders"' EXIT
trap 'exit 1' INT TERM

# start NAME PORT: a member whose port it makes that of what follows.
start() {
    port=$2
    peer="http://127.0.0.1:$((port + 1))"
    "$python" -m coordinator serve --data-dir "$folders/$1" --log-level warning \
        --listen-client-urls "http://127.0.0.1:$port" \
        --advertise-client-urls "http://127.0.0.1:$port" \
        --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
        --initial-cluster "default=$peer" &
    members="$members $!"
    ask /health '' >/dev/null
}

ask() {
    "$python" - "http://127.0.0.1:$port$1" "$2" <<'EOF'
import json, sys, time, urllib.request

target, body = sys.argv[1:]
for _ in range(120):
    try:
        made = urllib.request.Request(target, body.encode() or None)
        made.add_header("content-type", "application/json")
        with urllib.request.urlopen(made, timeout=30) as answer:
            print(json.load(answer).get("token", ""))
        break
    except OSError:
        time.sleep(0.5)
else:
    sys.exit("the member does not answer")
EOF
}

log_in() {
    ask /v1/auth/init "{\"password\": \"$secret\"}" >/dev/null
    token=$(ask /v1/auth/login "{\"user\": \"root\", \"password\": \"$secret\"}")
}

# fuzz FLAG OPERATIONS OPTIONS...: with --exclude-operation-id all others, with --include-operation-id
# those alone.
fuzz() (
    flag=$1 operations=$2
    shift 2
    options=''
    for one in $operations; do
        options="$options $flag $one"
    done
    # shellcheck disable=SC2086 # the options are words
    cd "$folder"  # It leaves files where it runs.
    venv/bin/schemathesis run "http://127.0.0.1:$port/openapi.json" \
        --checks not_a_server_error --phases examples,coverage,fuzzing \
        --max-examples "$examples" --continue-on-failure --no-shrink --warnings off \
        --generation-database none --suppress-health-check all --request-timeout 60 \
        $options "$@"
)

start most "$port"
echo 'fuzz-api: authentication off'
fuzz --exclude-operation-id "$membership $authentication $streams" "$@"
log_in
echo 'fuzz-api: as root'
fuzz --exclude-operation-id "$membership $authentication $streams" \
    --header "Authorization: Bearer $token" "$@"

# Options choose among those operations; with nothing left of a group schemathesis would fail.
[ $# -eq 0 ] || exit 0

"$python" tools/fuzz_proxy.py "$((port + 8))" "$port" &
proxy=$!
port=$((port + 8))
echo 'fuzz-api: streams'
fuzz --include-operation-id "$streams" --header "Authorization: Bearer $token" "$@"
kill "$proxy"
proxy=''

for group in "$authentication" "$membership"; do
    start "of-$((port + 2))" "$((port + 2))"
    log_in
    "$python" tools/fuzz_proxy.py "$((port + 8))" "$port" &
    proxy=$!
    port=$((port + 8))
    echo "fuzz-api: $group"
    fuzz --include-operation-id "$group" --header "Authorization: Bearer $token" "$@"
    kill "$proxy"
    proxy=''
done
