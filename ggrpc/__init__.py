"""Operate fleets of ggml RPC servers."""

from __future__ import annotations

import os

__version__ = "0.1.0"

# OpenBLAS reads this once, when numpy is first imported: log2 of the ticks for which
# its threads keep a processor busy after each product. Its own 26 is some 20 ms, in
# which everybody else's threads, ours included, run at a fraction of their speed.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "18")
