"""Tensors that a session keeps on a server, shared with other processes."""
