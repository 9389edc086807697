"""ggml's number formats: pack, unpack, quantize and compare arrays."""
