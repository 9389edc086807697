"""The choices for `ggrpc record --weights`, in a module that imports fast."""

from __future__ import annotations

from enum import Enum


class WeightRecording(str, Enum):
    """How to record the weights that a client sets: the bytes, a hash, or nothing."""

    FULL = "full"
    HASH = "hash"
    NONE = "none"
