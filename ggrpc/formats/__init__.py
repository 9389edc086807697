"""ggml's number formats."""
