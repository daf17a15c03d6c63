#!/bin/sh
# Makes environments with other people's clients of etcd, for `make compat`: two of them are both
# called etcd3 inside, and one needs a protobuf that nobody else can use any more.
set -eu

folder=${1:-.data/compat-clients}
python=${PYTHON:-python3}

make_one() {
    name=$1
    shift
    if [ -f "$folder/$name/.made" ] && [ "$(cat "$folder/$name/.made")" = "$*" ]; then
        return
    fi
    echo "compat-clients: $name: $*"
    rm -rf "${folder:?}/$name"
    "$python" -m venv "$folder/$name"
    "$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    echo "$*" >"$folder/$name/.made"
}

mkdir -p "$folder"
make_one modern 'aetcd==1.0.0' 'etcd3gw==2.7.0' 'etcd-client-py==0.5.1' \
    pytest pytest-asyncio pytest-mock
make_one etcd3 'etcd3==0.12.0' 'protobuf<3.21' 'tenacity<7' pytest hypothesis mock pyyaml pifpaf
make_one etcd3-py 'etcd3-py==0.1.6' setuptools prometheus-client
echo "compat-clients: ready in $folder"

# etcd itself, unpacked and not installed: an installed one would start, and take the port.
if [ ! -x "$folder/etcd-server/usr/bin/etcd" ] && command -v apt-get >/dev/null 2>&1; then
    mkdir -p "$folder/etcd-server"
    if (cd "$folder/etcd-server" && apt-get download etcd-server >/dev/null 2>&1 &&
        dpkg -x etcd-server_*.deb . && rm -f etcd-server_*.deb); then
        echo "compat-clients: etcd unpacked"
    else
        echo "compat-clients: etcd could not be had; the tests that compare with it will skip"
    fi
fi
