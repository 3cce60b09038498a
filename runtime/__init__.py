"""Running what was compiled: buffers, native code, threads, the disk cache. Needs no compiler."""
