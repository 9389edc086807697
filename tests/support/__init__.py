"""Helpers that several tests use; this package contains no tests."""
