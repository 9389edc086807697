"""Writes and reads recordings of sessions, and replays them on other devices."""
