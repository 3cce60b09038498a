"""Random programs as users write them: Python text over a namespace ``m``, which NumPy can take the place of.

A program is a function of a few arrays. While it is written, it is computed with NumPy too, so that shapes fit and
numbers stay moderate: a statement that fails there, or makes large numbers, is thrown away.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LARGE = 1e4

# --- what the programs mean ------------------------------------------------------------------------------------------


def leaves(value: Any) -> list[Any]:
    """The arrays in nested tuples, lists and dicts."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in leaves(item)]
    return [] if value is None else [value]


def mapped(function: Callable[..., Any], *values: Any) -> Any:
    """Containers of one form, with a function of the arrays at each place."""
    first = values[0]
    if isinstance(first, (tuple, list)):
        return type(first)(mapped(function, *items) for items in zip(*values))
    if isinstance(first, dict):
        return {key: mapped(function, *(value[key] for value in values)) for key in first}
    return None if first is None else function(*values)


class Reference:
    """The functions of programs in NumPy: loops and branches are Python's, many elements are computed one by one."""

    derivative_step = 1e-4

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    # loops and branches

    def scan(self, f: Any, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False) -> Any:
        count = len(leaves(xs)[0]) if length is None else length
        carry, results = init, []
        for k in range(count)[:: -1 if reverse else 1]:
            carry, y = f(carry, mapped(lambda x, k=k: x[k], xs))
            results.append(y)
        return carry, mapped(lambda *ys: np.stack(ys), *results[:: -1 if reverse else 1])

    def fori_loop(self, lower: int, upper: int, body: Any, init: Any) -> Any:
        for i in range(int(lower), int(upper)):
            init = body(np.int64(i), init)
        return init

    def while_loop(self, test: Any, body: Any, init: Any) -> Any:
        for _ in range(50):
            if not test(init):
                return init
            init = body(init)
        raise ValueError("endless")

    def cond(self, which: Any, yes: Any, no: Any, *operands: Any) -> Any:
        return (yes if which else no)(*operands)

    def switch(self, index: Any, branches: Sequence[Any], *operands: Any) -> Any:
        return branches[min(max(int(index), 0), len(branches) - 1)](*operands)

    # functions of functions

    def checkpoint(self, f: Any) -> Any:
        return f

    def vmap(self, f: Any, in_axes: Any = 0, out_axes: int = 0) -> Any:
        def every(*args: Any) -> Any:
            axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
            size = next(x.shape[axis] for x, axis in zip(args, axes) if axis is not None)
            rows = [
                f(*(x if axis is None else np.take(x, k, axis) for x, axis in zip(args, axes))) for k in range(size)
            ]
            return mapped(lambda *ys: np.stack(ys, out_axes), *rows)

        return every

    def jvp(self, f: Any, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
        def at(h: float) -> Any:
            return f(*(x + h * t for x, t in zip(primals, tangents)))

        h = self.derivative_step
        slope = mapped(  # the error is of fourth order
            lambda a, b, c, d: (8 * (np.asarray(a) - b) - (np.asarray(c) - d)) / (12 * h),
            at(h), at(-h), at(2 * h), at(-2 * h),
        )  # fmt: skip
        return f(*primals), slope

    def grad(self, f: Any) -> Any:
        def slopes(x: Any, *rest: Any) -> Any:
            x = np.asarray(x)
            found = [self.jvp(f, (x, *rest), (unit.reshape(x.shape), *(0 for _ in rest)))[1] for unit in np.eye(x.size)]
            return np.array(found, x.dtype).reshape(x.shape)

        return slopes

    # what NumPy writes otherwise

    def look(self, x: Any) -> Any:
        return x

    def stop_gradient(self, x: Any) -> Any:
        return x

    def stored(self, x: Any, key: Any, value: Any) -> Any:
        y = np.array(x)
        y[key] = value
        return y

    def difference(self, x: Any, axis: int) -> Any:
        return np.diff(x, axis=axis)

    def argsort(self, x: Any, axis: int) -> Any:
        return np.argsort(x, axis=axis, kind="stable")

    def softmax(self, x: Any, axis: int) -> Any:
        e = np.exp(x - np.max(x, axis, keepdims=True))
        return e / np.sum(e, axis, keepdims=True)

    def logsumexp(self, x: Any, axis: int) -> Any:
        top = np.max(x, axis)
        return np.log(np.sum(np.exp(x - np.expand_dims(top, axis)), axis)) + top

    def sigmoid(self, x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    def relu(self, x: Any) -> Any:
        return np.maximum(x, 0)

    def inv(self, x: Any) -> Any:
        return np.linalg.inv(x)

    def det(self, x: Any) -> Any:
        return np.linalg.det(x)

    def solve(self, a: Any, b: Any) -> Any:
        return np.linalg.solve(a, b)

    def cholesky(self, x: Any) -> Any:
        return np.linalg.cholesky(x)


REFERENCE = Reference()

# --- programs --------------------------------------------------------------------------------------------------------


@dataclass
class Program:
    """A program's text, the arrays that it was written for, and what occurs in it."""

    text: str
    arguments: list[np.ndarray]
    words: set[str]

    def function(self, namespace: Any) -> Callable[..., Any]:
        """The program as a function of its arrays."""
        made: dict[str, Any] = {"m": namespace}
        exec(compile(self.text, "<program>", "exec"), made)
        return made["program"]  # type: ignore[no-any-return]

    @property
    def differentiable(self) -> bool:
        """Whether reverse mode takes it."""
        return "while_loop" not in self.words

    def perturbed(self, seed: int, size: float) -> list[np.ndarray]:
        """Other arguments nearby; integers stay."""
        random = np.random.default_rng(seed)
        return [
            (a + size * random.uniform(-1, 1, a.shape)).astype(a.dtype) if a.dtype.kind == "f" else a
            for a in self.arguments
        ]


def steady(program: Program, size: float = 1e-9) -> bool:
    """Whether nearby arguments give nearby results: no comparison or rounding is decided by the last digits."""
    function = program.function(REFERENCE)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = leaves(function(*program.arguments))
        for seed in range(2):
            second = leaves(function(*program.perturbed(seed, size)))
            for a, b in zip(first, second, strict=True):
                a, b = np.asarray(a), np.asarray(b)
                if a.shape != b.shape or not np.allclose(a, b, rtol=1e3 * size, atol=1e3 * size):
                    return False
    return True


UNARY = (
    "sin", "cos", "tanh", "exp", "absolute", "square", "negative", "arctan", "expm1", "sinh", "cbrt", "sigmoid", "relu",
    "sqrt(1 + m.square({0}))", "log(1.5 + m.absolute({0}))", "log1p(m.square({0}))", "arcsinh",
    "reciprocal(2 + m.square({0}))", "arcsin(0.9 * m.sin({0}))", "sign", "floor", "stop_gradient",
)  # fmt: skip
BINARY = (
    "{0} + {1}", "{0} - {1}", "{0} * {1}", "{0} / (1.5 + {1} * {1})", "m.maximum({0}, {1})", "m.minimum({0}, {1})",
    "m.where({0} > {1}, {0}, 2 * {1})", "m.hypot({0}, {1} + 3)", "m.arctan2({0}, 2 + m.cos({1}))",
    "m.logaddexp({0}, {1})", "(1 + m.absolute({0})) ** {1}", "{0} ** 2 * {1}", "m.where(m.isfinite({0}), {1}, {0})",
    "m.copysign(m.absolute({0}) + 0.1, {1})",
    "m.where(({0} < {1}) & ({1} < 0.5), {0}, {1})", "m.clip({0}, -1.0, 1.5) - {1}", "{0} // 1 + {1}", "{0} % 1.5 + {1}",
)  # fmt: skip
INTEGER_BINARY = (
    "{0} + {1}", "{0} - {1}", "{0} * {1}", "m.maximum({0}, {1})", "{0} // (1 + m.absolute({1}))", "{0} % 7 - {1}",
    "{0} & {1}", "{0} ^ {1}", "m.where({0} > {1}, {0}, {1})", "({0} << 1) | ({1} >> 1)",
)  # fmt: skip
REDUCTIONS = ("sum", "mean", "max", "min", "prod", "var", "argmax", "any", "all", "logsumexp", "argmin")


@dataclass
class Writer:
    """Writes one function's statements, with the values that they have for the arguments at hand."""

    random: np.random.Generator
    values: dict[str, Any]
    lines: list[str] = field(default_factory=list)
    depth: int = 0
    """How many functions of loops, branches and transformations this one lies in."""
    names: list[int] = field(default_factory=lambda: [0])
    differentiable: bool = False
    """Whether only what reverse mode takes may be written."""
    outer: set[str] = field(default_factory=set)
    """The names from outside of the function."""

    # choices

    def some(self, items: Sequence[Any]) -> Any:
        return items[int(self.random.integers(len(items)))]

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def fresh(self, letter: str = "t") -> str:
        self.names[0] += 1
        return f"{letter}{self.names[0]}"

    def arrays(self, kind: str = "f", where: Callable[[Any], bool] = lambda x: True) -> list[str]:
        return [
            name for name, x in self.values.items()
            if isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind in kind and where(x)
        ]  # fmt: skip

    def pick(self, kind: str = "f", where: Callable[[Any], bool] = lambda x: True) -> str:
        found = self.arrays(kind, where)
        if not found:
            raise LookupError
        late = found[-4:]
        return str(self.some(late if self.chance(0.6) else found))

    # statements

    def evaluate(self, text: str) -> Any:
        return eval(text, {"m": REFERENCE, **self.values})

    def let(self, text: str, names: Sequence[str] = ()) -> bool:
        """Write ``name = text`` unless it fails or gives large numbers; several names take a tuple apart."""
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                value = self.evaluate(text)
            except (ValueError, IndexError, TypeError, ZeroDivisionError, FloatingPointError, np.linalg.LinAlgError):
                return False
        for leaf in leaves(value):
            leaf = np.asarray(leaf)
            if leaf.size > 600 or leaf.dtype.kind not in "fibu" or not np.all(np.isfinite(leaf)):
                return False
            if leaf.size and np.max(np.abs(leaf.astype(np.float64))) > LARGE:
                return False
        parts = value if names else (value,)
        made = list(names) or [self.fresh()]
        self.values.update(zip(made, parts))
        self.lines.append(f"{', '.join(made)} = {text}")
        return True

    def write(self, count: int) -> None:
        """So many statements, some of which come to nothing."""
        kinds = [
            (self.unary, 6), (self.binary, 8), (self.integers, 3), (self.index, 6), (self.store, 1), (self.reduce, 5),
            (self.move, 7), (self.join, 4), (self.cumulate, 2), (self.contract, 4), (self.linalg, 1), (self.iterate, 1),
            (self.sorts, 1), (self.casts, 2), (self.look, 1),
        ]  # fmt: skip
        if self.depth < 3:
            kinds += [
                (self.scans, 3), (self.repeats, 1), (self.whiles, 1), (self.chooses, 2), (self.switches, 1),
                (self.maps, 3), (self.again, 1), (self.slopes, 1),
            ]  # fmt: skip
        weights = np.array([weight for _, weight in kinds], float)
        for _ in range(count):
            kind = kinds[int(self.random.choice(len(kinds), p=weights / weights.sum()))][0]
            try:
                kind()
            except LookupError:
                continue

    def unary(self) -> None:
        name, x = self.some(UNARY), self.pick()
        self.let(f"m.{name.format(x)}" if "{" in name else f"m.{name}({x})")

    def binary(self) -> None:
        x = self.pick()
        shape = np.shape(self.values[x])
        fits = self.arrays("f", lambda y: _joined(np.shape(y), shape) is not None)
        operands = [x, self.some(fits) if fits and self.chance(0.85) else str(self.some((0.5, 2, -1.25, 3.0)))]
        if self.chance(0.1):
            other = self.arrays("ib", lambda y: _joined(np.shape(y), shape) is not None)
            operands[1] = self.some(other) if other else operands[1]
        if self.chance(0.5) and operands[1] in self.values:
            operands.reverse()
        self.let(self.some(BINARY).format(*operands))

    def integers(self) -> None:
        if self.chance(0.4) or not self.arrays("i"):
            x = self.pick()
            self.let(f"m.floor(3 * {x}).astype('int64')")
            return
        x = self.pick("i")
        fits = self.arrays("i", lambda y: _joined(np.shape(y), np.shape(self.values[x])) is not None)
        y = self.some(fits) if self.chance(0.8) else str(self.some((2, -3, 5)))
        self.let(self.some(INTEGER_BINARY).format(x, y))

    def key(self, shape: Sequence[int]) -> str:
        """The text of a key for an array of a shape."""
        parts: list[str] = []
        for n in shape[: int(self.random.integers(1, len(shape) + 1))]:
            kind = self.some(("slice", "slice", "slice", "int", "list", "all", "traced"))
            if self.chance(0.1):
                parts.append("None")
            if kind == "int" and n:
                parts.append(str(int(self.random.integers(-n, n))))
            elif kind == "list" and n:
                count = int(self.random.integers(1, 5))
                parts.append(str([int(k) for k in self.random.integers(-n, n, count)]))
            elif kind == "traced" and n and self.arrays("i"):
                parts.append(f"{self.pick('i')} % {n}")
            elif kind == "slice":
                start, stop = (self.some(("", *map(str, range(-n, n + 1)))) for _ in range(2))
                parts.append(f"{start}:{stop}{self.some(('', '', ':2', ':-1', ':-2'))}")
            else:
                parts.append(":")
        if self.chance(0.1):
            parts.insert(int(self.random.integers(0, len(parts) + 1)), "...")
        return ", ".join(parts)

    def index(self) -> None:
        x = self.pick("fi", lambda x: x.ndim > 0)
        self.let(f"{x}[{self.key(np.shape(self.values[x]))}]")

    def store(self) -> None:
        x = self.pick("f", lambda x: x.ndim > 0)
        key = self.key(np.shape(self.values[x]))
        if "[" in key or "%" in key:  # which of two equal places is written last is open
            return
        self.let(f"m.stored({x}, m.s_[{key}], {self.some((self.pick(), '0.25'))})")

    def axis(self, x: str) -> int:
        return int(self.random.integers(-np.ndim(self.values[x]), np.ndim(self.values[x])))

    def reduce(self) -> None:
        name, x = self.some(REDUCTIONS), self.pick("f", lambda x: x.ndim > 0)
        if name in ("any", "all"):
            self.let(f"m.{name}({x} > 0.1, axis={self.axis(x)})")
        elif name in ("logsumexp", "argmax", "argmin"):
            self.let(f"m.{name}({x}, axis={self.axis(x)})")
        else:
            ends = (0, np.ndim(self.values[x]) - 1) if np.ndim(self.values[x]) > 1 else (0,)
            axis = self.some(("None", str(self.axis(x)), str(ends)))
            self.let(f"m.{name}({x}, axis={axis}{self.some(('', ', keepdims=True'))})")

    def move(self) -> None:
        x = self.pick("fi")
        shape = np.shape(self.values[x])
        n = len(shape)
        size = math.prod(shape)
        divisors = [d for d in range(1, size + 1) if size % d == 0] or [1]
        d = self.some(divisors)
        order = tuple(int(k) for k in self.random.permutation(n))
        choices = [
            f"m.reshape({x}, ({d}, {size // d}))", f"m.reshape({x}, (-1,))", f"m.expand_dims({x}, 0)", f"m.ravel({x})",
            f"m.expand_dims({x}, -1)", f"m.broadcast_to({x}, {(2, *shape)})",
        ]  # fmt: skip
        if n:
            axis = self.axis(x)
            choices += [
                f"m.transpose({x}, {order})", f"m.flip({x}, {axis})", f"m.roll({x}, {self.some((1, -2))}, {axis})",
                f"m.tile({x}, 2)", f"m.repeat({x}, 2, {axis})", f"m.pad({x}, 1)", f"m.moveaxis({x}, {axis}, 0)",
                f"m.swapaxes({x}, 0, {axis})", f"m.difference({x}, axis={axis})", f"m.squeeze({x})",
                f"m.take({x}, m.array([0, -1, 0]), axis={axis})",
            ]  # fmt: skip
        if n >= 2:
            choices += [f"m.tril({x})", f"m.triu({x}, 1)", f"{x}.T", f"m.diagonal({x})", f"m.rot90({x})"]
        if n == 1:
            choices += [f"m.diag({x})", f"m.outer({x}, {x})"]
        self.let(self.some(choices))

    def join(self) -> None:
        x = self.pick("f")
        shape = np.shape(self.values[x])
        fits = self.arrays("f", lambda y: np.shape(y) == shape)
        parts = ", ".join(str(self.some(fits)) for _ in range(int(self.random.integers(1, 4))))
        if not shape:
            self.let(f"m.stack([{parts}, 1.5 * {x}])")
            return
        axis = self.axis(x)
        self.let(
            self.some(
                (f"m.concatenate([{x}, {parts}], axis={axis})", f"m.stack([{x}, {parts}], axis={axis})",
                 f"m.stack([{x}[0], {x}[-1], {x}[0] * 2])", f"m.concatenate([{x}[1:], {x}[:1]])")
            )
        )  # fmt: skip

    def cumulate(self) -> None:
        x = self.pick("f", lambda x: x.ndim > 0)
        self.let(f"m.{self.some(('cumsum', 'cumprod'))}({x}, axis={self.axis(x)})")

    def sorts(self) -> None:
        x = self.pick("f", lambda x: x.ndim > 0)
        axis = self.axis(x)
        choices = [
            f"m.sort({x}, axis={axis})", f"m.argsort({x}, axis={axis})", f"m.median({x}, axis={axis})",
            f"m.take_along_axis({x}, m.argsort({x}, axis={axis}), axis={axis})",
            f"m.searchsorted(m.sort(m.ravel({x})), {self.pick()})",
        ]  # fmt: skip
        self.let(self.some(choices))

    def casts(self) -> None:
        x = self.pick("fib")
        dtype = self.some(("float64", "int64", "float64"))
        self.let(f"({x} > 0.3)" if self.chance(0.3) else f"{x}.astype('{dtype}')")

    def contract(self) -> None:
        x = self.pick("f", lambda x: x.ndim > 0)
        last = np.shape(self.values[x])[-1]
        fits = self.arrays("f", lambda y: y.ndim > 0 and (y.shape[-2] if y.ndim > 1 else y.shape[0]) == last)
        same = self.arrays("f", lambda y: y.shape == np.shape(self.values[x]))
        choices = [f"{x} @ {self.some(fits)}"] if fits else []
        choices += [f"m.tensordot({x}, {self.some(same)}, {np.ndim(self.values[x])})"]
        if np.ndim(self.values[x]) == 2:
            other = self.some(same)
            choices += [f"m.einsum('ij,kj->ik', {x}, {other})", f"m.einsum('ij,ij->j', {x}, {other})"]
            choices += [f"{x} @ {other}.T", f"{x}.T @ {other}"]
        if np.ndim(self.values[x]) == 1:
            choices += [f"m.einsum('i,j->ij', {x}, {self.some(self.arrays('f', lambda y: y.ndim == 1))})"]
        self.let(self.some(choices))

    def linalg(self) -> None:
        x = self.pick("f", lambda x: x.ndim == 2 and x.shape[0] <= 6)
        n = np.shape(self.values[x])[0]
        spd = f"({x} @ {x}.T + 2.0 * m.eye({n}, dtype={x}.dtype))"
        self.let(self.some((f"m.inv{spd}", f"m.solve({spd}, {x})", f"m.cholesky{spd}", f"m.log(m.det{spd})")))

    def iterate(self) -> None:
        x = self.pick("f", lambda x: x.ndim > 0 and 0 < x.shape[0] <= 6)
        several = f"sum(m.sum({x}[k]) * (k + 1) for k in range(len({x})))"
        self.let(self.some((f"m.stack([m.sum(row * row) for row in {x}])", several)))

    def look(self) -> None:
        if not self.depth:
            self.let(f"m.look({self.pick('fib')})")

    # functions of functions

    def inner(
        self,
        parameters: Sequence[str],
        values: Sequence[Any],
        result: Callable[[Writer], str],
        differentiable: bool = False,
    ) -> str:
        """Write a function inside of this one; ``result`` gives the text of what it returns."""
        name = self.fresh("f")
        known = {key: value for key, value in self.values.items() if key not in parameters}
        writer = Writer(
            self.random, {**known, **dict(zip(parameters, values))}, depth=self.depth + 1, names=self.names,
            differentiable=self.differentiable or differentiable, outer=set(known),
        )  # fmt: skip
        writer.write(int(self.random.integers(1, 6)))
        self.lines.append(f"def {name}({', '.join(parameters)}):")
        body = [*writer.lines, f"return {result(writer)}"]
        self.lines.extend(f"    {line}" for line in body)
        made: dict[str, Any] = {"m": REFERENCE, **self.values}
        exec("\n".join([f"def {name}({', '.join(parameters)}):", *(f"    {line}" for line in body)]), made)
        self.values[name] = made[name]
        return name

    def own(self, kind: str) -> str:
        """A value made in the function, if there is one."""
        found = [name for name in self.arrays(kind) if name not in self.outer]
        return str(self.some(found[-3:])) if found else self.pick(kind)

    def like(self, writer: Writer, value: Any) -> str:
        """The text of a value of the shape and kind of ``value``, made of something in the function."""
        shape, kind = np.shape(value), np.asarray(value).dtype.kind
        found = writer.arrays(kind, lambda x: _joined(x.shape, shape) == shape)
        found = [name for name in found if name not in writer.outer] or found
        x = str(writer.some(found[-4:])) if found else f"m.sum({writer.own('f')})"
        if kind == "i":
            return f"m.broadcast_to({x} % 5, {shape})" if found else f"m.full({shape}, 3)"
        return f"m.broadcast_to(m.tanh({x}), {shape})"

    def clean(self, mark: int, made: bool, before: dict[str, Any]) -> None:
        """Take back the text of a function whose call failed."""
        if not made:
            del self.lines[mark:]
            self.values = before

    def call(self, mark: int, before: dict[str, Any], text: str, results: int = 1) -> bool:
        """Write the call of a function; take back the function's text, from ``mark`` on, if it comes to nothing."""
        made = self.let(text, [] if results == 1 else [self.fresh() for _ in range(results)])
        if not made:
            del self.lines[mark:]
            self.values = before
        return made

    def start(self) -> tuple[int, dict[str, Any]]:
        return len(self.lines), dict(self.values)

    def scans(self) -> None:
        start = self.start()
        x = self.pick("fi", lambda x: x.ndim > 0 and 0 < x.shape[0] <= 8)
        first, second = self.pick("f", lambda x: x.size <= 30), self.pick("fi", lambda x: x.size <= 30)
        c, d, part = self.values[first], self.values[second], self.values[x][0]
        order = self.some(("", ", reverse=True"))
        if self.chance(0.7):
            f = self.inner(["c", "x"], [c, part], lambda w: f"({self.like(w, c)}, {w.own('fib')})")
            self.call(*start, f"m.scan({f}, {first}, {x}{order})", 2)
            return

        def pair(w: Writer) -> str:
            carry = f"{{'a': {self.like(w, c)}, 'b': {self.like(w, d)}}}"
            return f"({carry}, ({w.own('fib')}, {w.own('fib')}))"

        f = self.inner(["c", "d", "x"], [c, d, part], pair)
        loop = f"m.scan(lambda p, x: {f}(p['a'], p['b'], x), {{'a': {first}, 'b': {second}}}, {x}{order})"
        if self.call(*start, loop, 2):
            last, results = self.lines[-1].split(" = ")[0].split(", ")
            self.let(f"{last}['a']")
            self.let(f"{results}[0]")

    def repeats(self) -> None:
        start = self.start()
        x = self.pick("f", lambda x: x.size <= 30)
        c = self.values[x]
        f = self.inner(["i", "c"], [np.int64(0), c], lambda w: self.like(w, c))
        self.call(*start, f"m.fori_loop({self.some((0, 1))}, {self.some((1, 3, 4))}, {f}, {x})")

    def whiles(self) -> None:
        if self.differentiable:
            return
        start = self.start()
        x = self.pick("f", lambda x: x.size <= 30)
        c = self.values[x]
        f = self.inner(["k", "c"], [np.int64(0), c], lambda w: f"(k + 1, {self.like(w, c)})")
        bound = self.some(("3", f"m.sum({x} > 0) % 4"))
        stop = self.some(("", f" & (m.sum(p[1]) < 5 * m.sum({x} * {x}))"))
        test = f"lambda p: (p[0] < {bound}){stop}"
        self.call(*start, f"m.while_loop({test}, lambda p: {f}(*p), (m.array(0), {x}))", 2)

    def chooses(self) -> None:
        start = self.start()
        x, test = self.pick("f", lambda x: x.size <= 60), self.pick()
        c = self.values[x]
        yes, no = (self.inner(["x"], [c], lambda w: self.like(w, c)) for _ in range(2))
        self.call(*start, f"m.cond(m.sum({test}) > {self.some((0.1, 1.5))}, {yes}, {no}, {x})")

    def switches(self) -> None:
        start = self.start()
        x, which = self.pick("f", lambda x: x.size <= 60), self.pick("i")
        c = self.values[x]
        functions = ", ".join(self.inner(["x"], [c], lambda w: self.like(w, c)) for _ in range(3))
        self.call(*start, f"m.switch(m.sum({which}) % 4, [{functions}], {x})")

    def maps(self) -> None:
        start = self.start()
        x = self.pick("fi", lambda x: x.ndim > 0 and min(x.shape) > 0 and max(x.shape) <= 8)
        axis = self.axis(x)
        size = np.shape(self.values[x])[axis]
        others = self.arrays("fi", lambda y: bool(y.ndim > 0 and y.shape[0] == size and y.size))
        given: list[tuple[str, str, int | None, Any]] = [("x", x, axis, np.take(self.values[x], 0, axis))]
        if others and self.chance(0.5):
            y = self.some(others)
            given.append(("y", y, 0, self.values[y][0]))
        if self.chance(0.3):
            shared = self.pick("f")
            given.append(("s", shared, None, self.values[shared]))
        names, texts, axes, values = (list(items) for items in zip(*given))
        f = self.inner(names, values, lambda w: w.own("fi"))
        how = f"in_axes={tuple(axes)}, out_axes={self.some((0, 0, -1))}"
        self.call(*start, f"m.vmap({f}, {how})({', '.join(texts)})")

    def again(self) -> None:
        start = self.start()
        x = self.pick("f")
        f = self.inner(["x"], [self.values[x]], lambda w: f"({w.own('f')}, {w.own('f')})")
        self.call(*start, f"m.checkpoint({f})({x})", 2)

    def slopes(self) -> None:
        mark, before = self.start()
        x = self.pick("f", lambda x: 0 < x.size <= 12 and x.dtype == np.float64)
        values = [self.values[x]]
        if self.chance(0.6):
            f = self.inner(["x"], values, lambda w: f"m.sum(m.tanh({w.own('f')}))", differentiable=True)
            text = f"m.grad({f})({x})"
        else:
            f = self.inner(["x"], values, lambda w: w.own("f"))
            text = f"m.jvp({f}, ({x},), (m.cos({x}),))[1]"
        if self.call(mark, before, text) and not self.smooth(text):
            del self.lines[mark:]
            self.values = before

    def smooth(self, text: str) -> bool:
        """Whether the differences that stand for a derivative are near it."""
        value = np.asarray(self.evaluate(text))
        Reference.derivative_step *= 4
        try:
            other = np.asarray(self.evaluate(text))
        finally:
            Reference.derivative_step /= 4
        return value.dtype.kind == "f" and bool(np.allclose(value, other, rtol=1e-6, atol=1e-6))


def _joined(*shapes: Sequence[int]) -> tuple[int, ...] | None:
    try:
        return np.broadcast_shapes(*map(tuple, shapes))
    except ValueError:
        return None


def random_program(seed: int, count: int = 10) -> Program:
    """A program of some ``count`` statements, whose results are steady at its arguments."""
    random = np.random.default_rng(seed)
    while True:
        arguments = []
        for _ in range(int(random.integers(1, 4))):
            shape = tuple(int(n) for n in random.choice([1, 2, 3, 4, 5, 7], int(random.integers(0, 4))))
            if random.random() < 0.1 and shape:
                shape = (int(random.integers(16, 40)), *shape[1:2])
            value = random.uniform(-1.5, 1.5, shape)
            arguments.append(value if random.random() < 0.85 else np.floor(4 * value).astype(np.int64))
        if not any(a.dtype == np.float64 for a in arguments):
            continue
        names = ["a", "b", "c"][: len(arguments)]
        writer = Writer(random, dict(zip(names, arguments)))
        writer.write(count)
        made = [n for n in writer.arrays("fib") if n not in names]
        if not made:
            continue
        results = list(dict.fromkeys([made[-1], *(str(writer.some(made)) for _ in range(3))]))
        text = "\n".join(
            [f"def program({', '.join(names)}):", *(f"    {line}" for line in writer.lines),
             f"    return {', '.join(results)},"]
        )  # fmt: skip
        words = {word for word in ("stored", "while_loop", "grad(", "jvp", "stop_gradient") if f"m.{word}" in text}
        program = Program(text + "\n", arguments, words)
        if steady(program):
            return program
