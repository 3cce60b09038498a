"""``@compile`` and realization: signatures, captures, traces, dispatch."""
