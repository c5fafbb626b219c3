"""A model as a bundle that an app embeds: graphs of ONNX Runtime or Core ML, one weight file, golden vectors.

`network.py` says once what the networks compute; `onnx.py` and `coreml.py` write it down for their runtimes.
"""

import edge_sdk  # noqa: F401  its import switches telemetry off, before onnxruntime is imported here
