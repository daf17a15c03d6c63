#!/bin/sh
# Asks every operation of the OpenAPI document what nobody meant, and counts server errors: of a
# member of its own, first with authentication off, then as root. schemathesis has an environment of
# its own, made when it is first needed.
#
#   tools/fuzz_api.sh [examples per operation] [options of schemathesis ...]
#
# Left out are streams, which do not end, and what takes the member away from under the test.
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

left_out='members_add members_remove members_update cluster_move_leader
auth_enable auth_disable auth_init auth_logout maintenance_snapshot
watch_create services_watch topics_subscribe elections_observe cluster_watch'

data=$(mktemp -d)
"$python" -m coordinator serve --data-dir "$data" --log-level warning \
    --listen-client-urls "http://127.0.0.1:$port" \
    --advertise-client-urls "http://127.0.0.1:$port" \
    --listen-peer-urls "http://127.0.0.1:$peer_port" \
    --initial-advertise-peer-urls "http://127.0.0.1:$peer_port" \
    --initial-cluster "default=http://127.0.0.1:$peer_port" &
member=$!
trap 'kill $member; wait $member; rm -rf "$data"' EXIT
trap 'exit 1' INT TERM

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

fuzz() (
    options=''
    for one in $left_out; do
        options="$options --exclude-operation-id $one"
    done
    # shellcheck disable=SC2086 # the options are words
    cd "$folder"  # It leaves files where it runs.
    venv/bin/schemathesis run "http://127.0.0.1:$port/openapi.json" \
        --checks not_a_server_error --phases examples,coverage,fuzzing \
        --max-examples "$examples" --continue-on-failure --no-shrink --warnings off \
        --generation-database none --suppress-health-check all --request-timeout 60 \
        $options "$@"
)

secret='correct horse battery staple'
ask /health '' >/dev/null
echo 'fuzz-api: authentication off'
fuzz "$@"
ask /v1/auth/init "{\"password\": \"$secret\"}" >/dev/null
token=$(ask /v1/auth/login "{\"user\": \"root\", \"password\": \"$secret\"}")
echo 'fuzz-api: as root'
fuzz --header "Authorization: Bearer $token" "$@"
