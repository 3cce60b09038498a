"""What knetc's arrays mean inside a Python function that a program calls: nothing, and an error says so."""

from __future__ import annotations

from typing import Any, NoReturn

from knetc.ir.node import Node
from knetc.lazy import Box, Context
from knetc.runtime.base.errors import HostCallError


class HostGuard(Context):
    """The recorder in force while a program calls a Python function: every use of a knetc array is refused.

    The program holds its device meanwhile, so another program could never start.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise HostCallError(
            f"{self.name} runs inside a compiled program, on NumPy arrays: it cannot use knetc arrays or functions; "
            "write it with NumPy alone, or without host=True to have it compiled"
        )

    def make(self, *_: Any) -> Node:
        self.refuse()

    def read(self, box: Box) -> Node:
        self.refuse()

    def write(self, box: Box, node: Node) -> None:
        self.refuse()

    def data(self, array: Any) -> Node:
        self.refuse()

    def concrete(self, box: Box, what: str) -> Any:
        self.refuse()

    def random_base(self, count: int) -> Node:
        self.refuse()

    def scalar(self, owner: object, name: str) -> Any:
        self.refuse()
