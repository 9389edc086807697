"""llama.cpp's own client, with libraries of xllamacpp that are older than b11549.

    python llama_older_tree.py MODEL.gguf OUT.npy N_PREDICT ENDPOINT [ENDPOINT ...]

The arguments, LLAMA_LIB and what comes out are those of the peer's `llama_client.py`,
which takes all such libraries for those of b11549. The Python package is 0.3.35, whose
structures are those of b10566.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import llama_client
from llama_cpp import llama_cpp

HAS_LAZY_MODE = ("2026.9.10809",)


def use_package_context():
    """Undo what `llama_client` did: there is no moe_cache_size yet."""
    params = llama_cpp.llama_context_params
    init = llama_cpp.llama_init_from_model
    llama_cpp.llama_context_default_params.restype = params
    init.argtypes = [*init.argtypes[:-1], params]


def add_lazy_mode():
    """Between b10566 and b10809 one field came to llama_model_params."""
    fields = list(llama_cpp.llama_model_params._fields_)
    at = [name for name, _ in fields].index("load_mode") + 1
    fields.insert(at, ("lazy_mode", ctypes.c_int))
    newer = type("llama_model_params", (ctypes.Structure,), {"_fields_": fields})
    load = llama_cpp.llama_model_load_from_file
    llama_cpp.llama_model_default_params.restype = newer
    load.argtypes = [*load.argtypes[:-1], newer]


if __name__ == "__main__":
    use_package_context()
    if Path(os.environ["LLAMA_LIB"]).parent.name in HAS_LAZY_MODE:
        add_lazy_mode()
    llama_client.main()
