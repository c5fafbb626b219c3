"""Diffusion models as functions of a learned embedding. Knows nothing of how the embedding is optimized."""
