"""How long each step of a program takes, by marks of the device's own clock between them (``KNETC_DEBUG=1``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from knetc.runtime.base.errors import CudaError
from knetc.runtime.cuda.driver import Driver


class Clock:
    """Adds up the time of each step over all runs of a program. Whatever is timed is waited for."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.runs = 0
        self.milliseconds = [0.0] * len(names)
        self._events: list[int] = []

    def launched(
        self, driver: Driver, stream: int, steps: Sequence[int], launches: Sequence[Callable[[], None]]
    ) -> None:
        """Put work into a stream, ``steps`` telling whose each piece is, and wait for it."""
        blamed: Sequence[int] = steps
        try:
            self._mark(driver, stream, 0)
            for k, (step, launch) in enumerate(zip(steps, launches)):
                blamed = [step]
                launch()
                self._mark(driver, stream, k + 1)
            blamed = steps
            driver.await_event(self._events[len(steps)])
        except CudaError as error:
            names = ", ".join(dict.fromkeys(f"kernel {k} ({self.names[k]})" for k in blamed))
            error.add_note(f"  in {names}; the environment variable CUDA_LAUNCH_BLOCKING=1 lets the driver tell which")
            raise
        for k, step in enumerate(steps):
            self.milliseconds[step] += driver.milliseconds(self._events[k], self._events[k + 1])

    def _mark(self, driver: Driver, stream: int, number: int) -> None:
        if number == len(self._events):
            self._events.append(driver.event(timed=True))
        driver.record(self._events[number], stream)
