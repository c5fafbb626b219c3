#!/bin/bash
# Builds everything without a warning, then runs the tests: those of the arithmetic against tests/golden, and those of
# EdgeOrt where there is a library of ONNX Runtime. Arguments go to `swift test`, such as --filter EdgeZOTests.
# EDGE_ORT_LIBRARY names the library; without it the one of the Python package is taken.
# Exit status 3 and one line: Swift cannot be had here.
set -eu
here=$(cd "$(dirname "$0")" && pwd -P)
package=$(dirname "$(dirname "$here")")
if [ -z "${EDGE_ORT_LIBRARY:-}" ]; then
    python="$package/.venv/bin/python"
    [ -x "$python" ] || python=python3
    EDGE_ORT_LIBRARY=$("$python" - 2>/dev/null <<'PYTHON' || true
import importlib.util, pathlib
found = importlib.util.find_spec("onnxruntime")
print(next((pathlib.Path(found.origin).parent / "capi").resolve().glob("libonnxruntime.so.*")))
PYTHON
    )
fi
export ORT_DISABLE_TELEMETRY=1
if [ -n "$EDGE_ORT_LIBRARY" ]; then
    export EDGE_ORT_LIBRARY EDGE_MOUNTS="${EDGE_MOUNTS:-} $(dirname "$EDGE_ORT_LIBRARY")"
else
    unset EDGE_ORT_LIBRARY
    echo "swift: no library of ONNX Runtime; the tests that need one are skipped" >&2
fi
exec "$here/swift.sh" swift test -Xswiftc -warnings-as-errors "$@"
