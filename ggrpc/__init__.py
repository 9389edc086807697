"""Operate fleets of ggml RPC servers."""

from __future__ import annotations

__version__ = "0.1.0"
