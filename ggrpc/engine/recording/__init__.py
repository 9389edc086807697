"""Recordings of sessions: write them, read them, and replay them on other devices."""
