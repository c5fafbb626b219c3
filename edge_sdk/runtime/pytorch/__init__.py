"""A model folder on PyTorch, with integer or float weights."""
