#!/bin/sh
# Installs the system packages that a few tests use. Without them those tests skip and say why.
#   chromium     the browser pass of the dashboard
#   etcd-client  etcdctl, for the compatibility sample
#   nghttp2-client h2load, a load of HTTP/2 for the gRPC port
#   golang-cfssl cfssl and cfssljson, whose certificates must do as well
set -eu

missing=""
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
command -v etcdctl >/dev/null 2>&1 || missing="$missing etcd-client"
command -v h2load >/dev/null 2>&1 || missing="$missing nghttp2-client"
command -v cfssljson >/dev/null 2>&1 || missing="$missing golang-cfssl"

if [ -z "$missing" ]; then
    echo "system-deps: chromium, etcdctl, h2load and cfssl are there, nothing to do"
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "system-deps: no apt-get here; install by hand if you want every test:$missing"
    exit 0
fi
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    echo "system-deps: neither root nor sudo; ask someone who is:  apt-get install$missing"
    exit 0
fi

echo "system-deps: installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
$as_root apt-get update >"$log" 2>&1 || echo "system-deps: apt-get update failed, going on with the old lists"
for package in $missing; do
    if $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "$package" >"$log" 2>&1 </dev/null; then
        echo "system-deps: $package installed"
    else
        echo "system-deps: $package could not be installed; the tests that use it will skip. apt-get said:"
        tail -n 3 "$log"
    fi
done
