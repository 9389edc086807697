"""The tensor cache: stores tensors by the hash of their bytes, to receive them once."""
