"""Where a model runs: `pytorch` on a model folder, `onnx` on an exported bundle; `base` says what both offer."""
