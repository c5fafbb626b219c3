"""Denoiser, autoencoder and text encoder on bare PyTorch, with the numbers of diffusers and transformers."""
