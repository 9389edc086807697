"""Tests of all kernels for GPUs, with shapes so small that a simulator can run them.

pytest does not collect these files by itself: `test_oclgrind.py` runs them.
"""
