#!/bin/bash
# Type-checks what only Apple's systems build: EdgeCoreML, the Apple half of EdgePhotos, and App/. Apple's frameworks are the
# declarations of ours in Stubs/. Files given are checked as further ones of the app, for the README's code.
#     typecheck.sh [FILE.swift ...]        exit status 3 and one line: Swift cannot be had here
set -eu
here=$(cd "$(dirname "$0")" && pwd -P)
package=$(dirname "$(dirname "$here")")
scratch="${XDG_CACHE_HOME:-$HOME/.cache}/edge-sdk/swift-build-$(sha256sum <<<"$package" | cut -c1-8)"
for module in EdgeOrt EdgeModel; do "$here/swift.sh" swift build --target $module >"$scratch.log" 2>&1 || {
    status=$?
    tail -n 20 "$scratch.log" >&2
    exit $status
}; done
mkdir -p "$scratch/typecheck"
for file in "$@"; do cp "$file" "$scratch/typecheck/"; done
exec "$here/swift.sh" bash -euc '
    stubs=$1/ios_demo/Stubs sources=$1/ios_demo/Sources made=$2/typecheck modules=$2/debug/Modules
    shift 2
    check() { swiftc -swift-version 6 -warnings-as-errors -parse-as-library -D EDGE_STUBS -I "$made" -I "$modules" "$@" 2>&1 |
        grep -v "libc not found" || return "${PIPESTATUS[0]}"; return "${PIPESTATUS[0]}"; }
    module() { check -emit-module -module-name "$1" -o "$made/$1.swiftmodule" "${@:2}"; }
    rm -f "$made"/*.swiftmodule
    for name in $(cat "$stubs/order"); do module "$name" "$stubs/$name"/*.swift; done
    module EdgePhotos "$sources"/EdgePhotos/*.swift
    module EdgeCoreML "$sources"/EdgeCoreML/*.swift
    check -typecheck -module-name EdgeApp "${stubs%/*}"/App/*.swift "$@"
    echo "type check: $(wc -l <"$stubs/order") stubs, EdgePhotos, EdgeCoreML and $(ls "${stubs%/*}"/App/*.swift "$@" | wc -l) files of the app"
' sh "$package" "$scratch" $(for file in "$@"; do echo "$scratch/typecheck/$(basename "$file")"; done)
