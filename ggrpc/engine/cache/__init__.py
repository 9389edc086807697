"""The tensor cache: weights kept by their hash, so that they are sent only once."""
