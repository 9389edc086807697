"""Computations of graphs on devices here and on servers."""
