"""Computation of graphs on local devices and on servers."""
