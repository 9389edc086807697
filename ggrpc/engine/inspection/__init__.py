"""Reads, compares and draws the graphs of recordings, without running them."""
