"""Checks of a server: it follows the protocol, and it computes correctly."""
