"""The CPU: loader for native objects, worker pool, program calls."""
