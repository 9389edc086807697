"""Recordings of sessions: written, read, and replayed on other devices."""
