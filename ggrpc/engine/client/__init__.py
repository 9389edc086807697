"""Client sessions, remote devices, and the registry of devices."""

from __future__ import annotations
