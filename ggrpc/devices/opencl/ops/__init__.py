"""The OpenCL kernels' launches, one module for each family of ops."""
