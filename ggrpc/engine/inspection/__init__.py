"""Reads the graphs of recordings and captured sessions, without running them."""
