"""Checks that a server follows the protocol and computes correctly."""
