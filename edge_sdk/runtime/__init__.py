"""The main job on an exported bundle, with numpy and ONNX Runtime; nothing here imports PyTorch."""
