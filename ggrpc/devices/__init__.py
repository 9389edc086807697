"""Devices that compute graphs: one interface, and a folder for each kind."""
