"""Looks into recordings, captured sessions and models, without running anything."""
