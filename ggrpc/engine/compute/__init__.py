"""Computes graphs on local devices and on servers."""
