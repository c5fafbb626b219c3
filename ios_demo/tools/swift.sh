#!/bin/bash
# Runs a command where Swift is: on Debian 13 as it is, else in the root of swift_root.sh, in a mount namespace of its own.
# The checkout lies at its own path there. What is built goes to a scratch folder of the cache, one for each checkout.
#     swift.sh swift build -c release          swift.sh swift test --filter EdgeZOTests
# EDGE_MOUNTS="/a /b" are further folders that the command needs, such as a bundle outside of the checkout.
# Exit status 3 and one line: Swift cannot be had here.
set -eu
here=$(cd "$(dirname "$0")" && pwd -P)
package=$(dirname "$(dirname "$here")")
root=$("$here/swift_root.sh") || exit $?
scratch="${XDG_CACHE_HOME:-$HOME/.cache}/edge-sdk-tools/swift-build-$(sha256sum <<<"$package" | cut -c1-8)"
mkdir -p "$scratch/home"
case "${1:-} ${2:-}" in
"swift build" | "swift test" | "swift run" | "swift package")
    verb=$2
    shift 2
    set -- swift "$verb" --package-path "$package" --scratch-path "$scratch" "$@" ;;
esac
cd "$package"
[ "$root" = / ] && exec "$@"
[ "$(id -u)" = 0 ] || { echo "swift: mounting into $root takes root; skipped" >&2; exit 3; }

exec unshare --mount bash -euc '
    root=$1 package=$2 scratch=$3
    shift 3
    mount --rbind /proc "$root/proc"
    for folder in "$package" "$scratch" ${EDGE_MOUNTS:-}; do
        mkdir -p "$root$folder"
        mount --rbind "$folder" "$root$folder"
    done
    exec chroot "$root" env --chdir="$package" HOME="$scratch/home" "$@"
' sh "$root" "$package" "$scratch" "$@"
