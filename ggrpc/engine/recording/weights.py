"""The ways to record weights, in a file of their own that imports fast."""

from __future__ import annotations

from enum import Enum


class WeightRecording(str, Enum):
    """How to record the weights that a client sets: the bytes, a hash, or nothing."""

    FULL = "full"
    HASH = "hash"
    NONE = "none"
