"""The tensor cache: stores tensors by hash, so that clients send them only once."""
