"""Devices that compute graphs: the interface, and a folder for each kind of device."""
