#!/bin/bash
# Runs a program that swift.sh has built, on this machine itself: no other root, no namespace, any path.
#     run.sh [-c release] edge-personalize --help
set -eu
here=$(cd "$(dirname "$0")" && pwd -P)
kind=debug
[ "${1:-}" = -c ] && { kind=$2; shift 2; }
root=$("$here/swift_root.sh") || exit $?
scratch="${XDG_CACHE_HOME:-$HOME/.cache}/edge-sdk-tools/swift-build-$(sha256sum <<<"$(dirname "$(dirname "$here")")" | cut -c1-8)"
program="$scratch/$kind/$1"
shift
[ -x "$program" ] || { echo "$program is not built yet; run $here/swift.sh swift build -c $kind" >&2; exit 2; }
export ORT_DISABLE_TELEMETRY=1
[ "$root" = / ] && exec "$program" "$@"
libraries=$(echo "$root"/usr/lib/*-linux-gnu)
exec "$(echo "$root"/usr/lib*/ld-linux-*.so.*)" --library-path "$libraries:$root/usr/libexec/swift/lib/swift/linux" "$program" "$@"
