"""Jinja2 templates of the Triton kernels."""
