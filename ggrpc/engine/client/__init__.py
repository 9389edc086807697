"""Clients of a server, its devices, a registry of all devices, and benchmarks."""

from __future__ import annotations
