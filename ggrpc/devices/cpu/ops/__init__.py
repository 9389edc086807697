"""The numpy kernels, one module for each family of ops."""
