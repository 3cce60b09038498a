"""Running programs on NVIDIA GPUs: the driver by ctypes, memory, launches and graphs. Neither torch nor a compiler."""
