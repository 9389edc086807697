"""Uses the OpenCL driver: finds devices, builds kernels, allocates, hashes, tunes."""
