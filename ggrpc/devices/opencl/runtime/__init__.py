"""The driver: discovery of devices, building of kernels, memory, launch sizes."""
