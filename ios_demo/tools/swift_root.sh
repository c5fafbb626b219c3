#!/bin/bash
# Prints the folder whose programs are Debian 13's, Swift among them: "/" on Debian 13 itself, else a root in the cache.
# It is made once (about 3 minutes, 3 GB), in a folder that gets its name only when it is whole; an interrupted making is
# begun anew. The name is that of the package set, so another set is another root.
# With EDGE_SDK_FETCH=0 nothing is fetched, as in the tests.
#     swift_root.sh [FOLDER]        exit status 3 and one line: Swift cannot be had here
set -u
# libonnxruntime-dev for its header: the library itself is opened at run time. libpng and libturbojpeg decode photos.
packages="swiftlang libc6-dev libstdc++-14-dev libpng-dev libturbojpeg0-dev libonnxruntime-dev"
name="swift-trixie-$(sha256sum <<<"$packages" | cut -c1-8)"
root=$(realpath -m "${1:-${XDG_CACHE_HOME:-$HOME/.cache}/edge-sdk-tools/$name}")
log="$root.log" making="$root.making"
absent() { echo "swift: $1; skipped" >&2; exit 3; }

if grep -q '^13\b' /etc/debian_version 2>/dev/null; then
    if ! dpkg-query -W $packages >/dev/null 2>&1; then
        [ "${EDGE_SDK_FETCH:-1}" = 0 ] && absent "not set up; make ios does it"
        [ "$(id -u)" = 0 ] || absent "not root, and of these packages some are missing: $packages"
        mkdir -p "$(dirname "$log")"
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages; } >"$log" 2>&1 </dev/null ||
            absent "apt-get failed, see $log"
    fi
    echo /
    exit
fi
[ -d "$root" ] && { echo "$root"; exit; }
[ "${EDGE_SDK_FETCH:-1}" = 0 ] && absent "not set up; make ios does it"
[ "$(id -u)" = 0 ] || absent "making $root takes root"
mkdir -p "$(dirname "$root")"
# Two checkouts may ask at once. What the making starts holds the lock too: if this script is killed, the next one waits.
exec 9>"$root.lock"
flock 9
[ -d "$root" ] && { echo "$root"; exit; }
command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap; } \
    >"$log" 2>&1 </dev/null || absent "debootstrap cannot be installed, see $log"

# debootstrap mounts /proc: here in namespaces of its own, whose mounts and processes end with it, whatever happens.
timeout 1500 unshare --mount --pid --fork --kill-child bash -euc '
    rm -rf --one-file-system "$0"
    debootstrap --variant=minbase trixie "$0"
    mountpoint -q "$0/proc" || mount -t proc proc "$0/proc" # without it programs do not find their libraries
    printf "path-exclude=/usr/share/%s/*\n" doc man locale >"$0/etc/dpkg/dpkg.cfg.d/small"
    echo "force-unsafe-io" >>"$0/etc/dpkg/dpkg.cfg.d/small"
    # Resolved by apt, but of the ONNX Runtime only the header is unpacked: its own library is too old for 8-bit weights.
    chroot "$0" sh -euc "
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends \$(echo \"\$1\" | sed s/libonnxruntime-dev//)
        cd /tmp && apt-get download -qq libonnxruntime-dev && dpkg-deb -x libonnxruntime-dev_*.deb /
        apt-get clean && rm -rf /tmp/* /var/lib/apt/lists/*
        swift --version" sh "$1"
' "$making" "$packages" >"$log" 2>&1 </dev/null || absent "the root cannot be made, see $log"
mv "$making" "$root"
echo "$root"
