"""What kernels need of a driver: discovery, builds, memory and launch sizes."""
