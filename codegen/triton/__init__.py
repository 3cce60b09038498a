"""Triton source for NVIDIA GPUs."""
