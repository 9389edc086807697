"""Reads and writes files of tensors: GGUF, numpy and safetensors."""
