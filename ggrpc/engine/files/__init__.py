"""Tensors and arrays in files: GGUF, numpy and safetensors."""
