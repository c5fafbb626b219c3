"""One case of `differences.py` under whatever version of the package is first on Python's path.

Answers "time" with the processor seconds of a call, "memory" with MB after loading and at the peak since.
"""

import json
import sys
import time

import numpy as np


def main() -> None:
    from benchmarks.memory.case import integer_objective, reset_peak
    from edge_sdk.quantization import native
    from edge_sdk.system.memory import bound_heap, leave_out_tracing, peak_rss_mb, release, rss_mb
    from edge_sdk.zo import directions, draw, fast

    case = json.loads(sys.argv[1])
    bound_heap()
    leave_out_tracing()
    assert native.library() is not None
    weights = "int4" if "int4" in case["checkpoint"] else "int8"
    objective = integer_objective(case["checkpoint"], weights, case["residency"])
    text = objective.text
    token = (text.initial_embedding("a", 1) / text.scale).astype(np.float32)
    # The earlier version knows no other directions.
    principal = text.search_directions(32, "principal") if hasattr(text, "search_directions") else None
    basis = directions(text.principal_directions(32) if principal is None else principal, 32, 1)
    mu = np.float32(fast(text.vocabulary_std(), text.width).zo_mu)
    rows = np.concatenate([token[None], token + mu * basis])[: case["rows"]]
    drawn = draw(objective, 0, 0, 1, (500, 501))[0]
    if case["activations"] == "difference":
        objective.activations = "difference"
        objective = objective.near(token)
    release()
    loaded = rss_mb()
    reset_peak()
    print("{}", flush=True)
    for line in sys.stdin:
        if line.strip() == "memory":
            print(json.dumps({"loaded": loaded, "peak": peak_rss_mb()}), flush=True)
            continue
        begun = time.process_time()
        objective.residuals(rows, [drawn] * len(rows))
        print(json.dumps({"seconds": time.process_time() - begun}), flush=True)


if __name__ == "__main__":
    main()
