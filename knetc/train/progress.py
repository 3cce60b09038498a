"""``progress``: a bar that shows how far an iteration has come."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

CELLS = 20
EIGHTHS = " ▏▎▍▌▋▊▉█"


class Progress:
    """The iterator that ``progress`` returns: ``curriter`` items so far, the last of which is ``currval``."""

    #: returned by a message function, it ends the iteration
    stop = object()

    def __init__(
        self,
        message: Callable[[Progress], Any] | None,
        items: Iterable[Any],
        steps: int,
        seconds: float,
        io: TextIO | None,
    ) -> None:
        self.message = message
        self.items = items
        self.steps = steps
        self.seconds = seconds if steps or seconds else 1
        self.io = io
        self.currval: Any = None
        self.curriter = 0
        self.started = 0.0
        self.shown_at = 0.0

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        if not self.started:
            self.started = time.monotonic()
        shown = True
        try:
            for item in self.items:
                self.currval = item
                self.curriter += 1
                shown = self._is_due()
                if shown and self._show() is Progress.stop:
                    return
                yield item
            if not shown:
                self._show()
        finally:
            if self.curriter and self._draws_over():
                print(file=self._output(), flush=True)

    def _is_due(self) -> bool:
        if self.curriter == 1 or (self.steps and self.curriter % self.steps == 0):
            return True
        return bool(self.seconds) and time.monotonic() - self.shown_at >= self.seconds

    def _output(self) -> TextIO:
        return sys.stderr if self.io is None else self.io

    def _draws_over(self) -> bool:
        """Whether a line can be drawn over: on terminals and in notebooks."""
        output = self._output()
        return type(output).__module__.startswith("ipykernel") or bool(getattr(output, "isatty", lambda: False)())

    def _show(self) -> Any:
        self.shown_at = time.monotonic()
        message = self.message(self) if self.message is not None else ""
        if message is Progress.stop:
            return message
        output = self._output()
        terminal = self._draws_over()  # a log file gets lines, a terminal one line that is drawn over
        text = self.text("" if message is None else str(message))
        print(f"\r{text}\x1b[K" if terminal else text, end="" if terminal else "\n", file=output, flush=True)
        return message

    def text(self, message: str = "") -> str:
        """The bar as it is now."""
        return bar(self.curriter, _length(self.items), time.monotonic() - self.started, message)


def bar(done: int, whole: int | None, seconds: float, message: str = "") -> str:
    """Knet's progress bar.

    >>> bar(903, 1040, 96, "msg")
    '┣█████████████████▎  ┫ [86.83%, 903/1040, 01:36/01:50, 9.41i/s] msg'
    """
    speed = f"{done / seconds:.2f}i/s" if done >= seconds > 0 else f"{seconds / done:.2f}s/i" if done else "-"
    if whole is None:
        line = f"[{done}, {clock(seconds)}, {speed}]"
    else:
        part = done / whole if whole else 1.0
        eighths = min(int(part * CELLS * 8), CELLS * 8)
        cells = "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths < CELLS * 8 else "")
        estimate = seconds / part if part else 0.0
        line = f"┣{cells:<{CELLS}}┫ [{part * 100:.2f}%, {done}/{whole}, {clock(seconds)}/{clock(estimate)}, {speed}]"
    return f"{line} {message}".rstrip()


def clock(seconds: float) -> str:
    """A duration as mm:ss or hh:mm:ss."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours:02}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes:02}:{whole % 60:02}"


def _length(items: Any) -> int | None:
    try:
        return len(items)
    except TypeError:
        return None


def progress(*arguments: Any, steps: int = 0, seconds: float = 0, io: TextIO | None = None) -> Progress:
    """``progress(items)`` iterates as ``items`` does, and draws a bar; ``progress(message, items)`` also shows text.

    The bar is drawn for the first item, the last one, and every ``steps`` items or ``seconds`` seconds (1 if neither
    is given), on ``io`` (standard error by default; a line each time if that is no terminal). ``message(p)`` is called
    then; ``p.currval`` is the current item and ``p.curriter`` its number. ``Progress.stop`` as its result ends it.

    >>> for loss in kn.progress(kn.adam(loss, data)):
    ...     pass
    """
    if len(arguments) not in (1, 2):
        raise TypeError("progress takes what to iterate, or a message function and what to iterate")
    message = arguments[0] if len(arguments) == 2 else None
    return Progress(message, arguments[-1], steps, seconds, io)


def progress_(*arguments: Any, steps: int = 0, seconds: float = 0, io: TextIO | None = None) -> None:
    """Iterate ``progress(...)`` to its end.

    >>> kn.progress_(kn.adam(loss, data))
    """
    for _ in progress(*arguments, steps=steps, seconds=seconds, io=io):
        pass


__all__ = ["progress", "progress_"]
