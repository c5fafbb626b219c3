#!/bin/bash
# Type-checks what only Apple's systems build: the app, EdgeCoreML, and the Apple halves of EdgePhotos and EdgeRuntime. Apple's
# frameworks are our own declarations in Stubs/. Files given are checked as further ones of the app, for the README's code.
#     typecheck.sh [FILE.swift ...]        exit status 3 and one line: Swift cannot be had here
set -eu
here=$(cd "$(dirname "$0")" && pwd -P)
package=$(dirname "$(dirname "$here")")
scratch="${XDG_CACHE_HOME:-$HOME/.cache}/edge-sdk-tools/swift-build-$(sha256sum <<<"$package" | cut -c1-8)"
for module in EdgeOrt EdgeModel; do
    "$here/swift.sh" swift build --target $module >"$scratch.log" || { status=$?; tail -n 20 "$scratch.log" >&2; exit $status; }
done
rm -rf "$scratch/typecheck"
mkdir -p "$scratch/typecheck/more"
for file in "$@"; do cp "$file" "$scratch/typecheck/more/"; done
exec "$here/swift.sh" bash -euc '
    shopt -s nullglob
    demo=$1/ios_demo made=$2/typecheck modules=$2/debug/Modules more=("$2"/typecheck/more/*.swift)
    check() {
        swiftc -swift-version 6 -warnings-as-errors -parse-as-library -D EDGE_STUBS -I "$made" -I "$modules" \
            -Xcc -fmodule-map-file="$2/debug/COnnxRuntime.build/module.modulemap" "${@:3}" 2>"$made/log" && return
        grep -v "libc not found" "$made/log" >&2
        return 1
    }
    module() { check "$1" "$2" -emit-module -module-name "$3" -o "$made/$3.swiftmodule" "${@:4}"; }
    stubs="CoreGraphics ImageIO CoreML UniformTypeIdentifiers UIKit SwiftUI PhotosUI BackgroundTasks"
    for name in $stubs; do module "$1" "$2" "$name" "$demo/Stubs/$name"/*.swift; done
    module "$1" "$2" EdgePhotos $(ls "$demo"/Sources/EdgePhotos/*.swift | grep -v Linux)
    module "$1" "$2" EdgeCoreML "$demo"/Sources/EdgeCoreML/*.swift
    app=("$demo"/App/*.swift "${more[@]}")
    check "$1" "$2" -typecheck -module-name EdgeApp "${app[@]}"
    # Last: with a Darwin here, other modules would no longer look for Glibc.
    module "$1" "$2" Darwin "$demo"/Stubs/Darwin/*.swift -swift-version 5 # as C is
    check "$1" "$2" -typecheck -module-name EdgeRuntime "$demo"/Sources/EdgeRuntime/*.swift
    echo "type check: EdgePhotos, EdgeCoreML, EdgeRuntime and ${#app[@]} files of the app, against $(wc -w <<<"$stubs Darwin") stubs"
' sh "$package" "$scratch"
