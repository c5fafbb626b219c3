"""An exported bundle on numpy and ONNX Runtime; nothing here imports PyTorch."""
