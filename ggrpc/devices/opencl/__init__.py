"""OpenCL devices, by pyopencl."""
