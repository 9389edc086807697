"""How a recording stores weights; cheap to import, for the command line."""

from __future__ import annotations

from enum import Enum


class WeightRecording(str, Enum):
    """How the weights that a client sets are recorded."""

    FULL = "full"
    HASH = "hash"
    NONE = "none"
