"""Fusions: patterns of several nodes that one launch computes."""
