"""Appends the launches of OpenCL kernels; one module for each family of ops."""
