"""Text to graphs: what ``printer`` writes, read with ``ast``.

Nothing is evaluated, so text from anywhere may be read: names are looked up in the table of operations, and anything
but the printed forms is refused with GraphTextError.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from knetc.ir.control import may_raise
from knetc.ir.group import GROUP, ITEM
from knetc.ir.node import Graph, Node
from knetc.ir.op import OPS, Kind, Op
from knetc.ir.printer import operators
from knetc.ir.record import Recorder
from knetc.ir.types import TensorType
from knetc.runtime.base import dtypes
from knetc.runtime.base.errors import GraphTextError

MAX_CHARACTERS = 1 << 26
MAX_NESTING = 16
"""Of tuples in attributes, and of groups, loops and branches in each other."""

_SYMBOLS: Mapping[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.MatMult: "@", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>",
    ast.USub: "-", ast.UAdd: "+", ast.Invert: "~",
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip

Number = bool | int | float


def from_text(text: str) -> Graph:
    """The graph that a text describes; raises GraphTextError, with the line, for text that describes none.

    >>> from_text("def graph(x: f32[3]):\\n    t0: f32[3] = x * 2.0\\n    return t0\\n").outputs[0].type
    TensorType(dtype=dtype('float32'), shape=(3,))
    """
    if len(text) > MAX_CHARACTERS:
        raise GraphTextError(f"a graph's text has at most {MAX_CHARACTERS} characters, not {len(text)}")
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise GraphTextError(f"not a graph's text: {error}") from None
    if len(module.body) != 1 or not isinstance(module.body[0], ast.FunctionDef):
        raise GraphTextError("a graph's text is one function definition")
    return _Reader(operators(), 0).function(module.body[0])


def type_from_text(text: str) -> TensorType:
    """The type that ``f32[8,10]`` names; raises GraphTextError for other text."""
    try:
        return _type(ast.parse(text.replace("[]", ""), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise GraphTextError(f"{text!r} is no type: {error}") from None


def _fail(node: ast.AST, message: str) -> GraphTextError:
    return GraphTextError(f"line {getattr(node, 'lineno', 0)}: {message}")


def _name(node: ast.AST) -> str:
    if not isinstance(node, ast.Name):
        raise _fail(node, "a name was expected")
    return node.id


def _type(node: ast.expr) -> TensorType:
    extents: Any = ()
    base = node
    if isinstance(node, ast.Subscript):
        base = node.value
        value = _literal(node.slice)
        extents = value if isinstance(value, tuple) else (value,)
    name = _name(base)
    if name not in dtypes.SHORT_NAMES or not all(type(extent) is int for extent in extents):
        raise _fail(node, "a type was expected, such as f32[8,10]")
    return TensorType(dtypes.from_short_name(name), extents)


def _number(node: ast.expr) -> Number | None:
    """The number that an expression writes out; None if it is something else."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _number(node.operand) if not isinstance(node.operand, ast.UnaryOp) else None
        return None if value is None else -value
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        return node.value
    if isinstance(node, ast.Name) and node.id in ("inf", "nan"):
        return float(node.id)
    return None


def _literal(node: ast.expr, depth: int = 0) -> Any:
    """The value of an attribute: numbers, strings, None, dtypes and tuples of them."""
    number = _number(node)
    if number is not None:
        return number
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, str)):
        return node.value
    if isinstance(node, ast.Name) and node.id in dtypes.SHORT_NAMES:
        return dtypes.from_short_name(node.id)
    if isinstance(node, ast.Tuple) and depth < MAX_NESTING:
        return tuple(_literal(element, depth + 1) for element in node.elts)
    raise _fail(node, "an attribute is a number, a string, None, a dtype, or a tuple of these")


class _Reader:
    """Reads one function; its groups are read by readers of their own."""

    def __init__(self, symbols: Mapping[tuple[str, int], Op], depth: int) -> None:
        self.symbols = symbols
        self.depth = depth
        self.builder = Recorder()
        self.values: dict[str, Node] = {}
        self.groups: dict[str, Graph] = {}
        self.effects: list[Node] = []

    def make(self, at: ast.AST, op: Op, sources: tuple[Node, ...], attributes: Mapping[str, Any]) -> Node:
        if op.arity >= 0 and op.kind in (Kind.ELEMENTWISE, Kind.REDUCTION, Kind.SCAN) and len(sources) != op.arity:
            raise _fail(at, f"{op.name} takes {op.arity} values, not {len(sources)}")
        try:
            return self.builder.make(op, sources, attributes)
        except Exception as error:  # a type rule given nonsense may fail in any way; none of them is ours to fix
            raise _fail(at, f"{op.name}: {type(error).__name__}: {error}") from None

    def function(self, function: ast.FunctionDef) -> Graph:
        arguments = function.args
        extra = (arguments.posonlyargs, arguments.kwonlyargs, arguments.vararg, arguments.kwarg, arguments.defaults)
        if any(extra) or function.decorator_list:
            raise _fail(function, "a graph has plain arguments with types, and nothing else")
        inputs = [self.input(index, argument) for index, argument in enumerate(arguments.args)]
        *statements, last = function.body
        for statement in statements:
            self.statement(statement)
        if not isinstance(last, ast.Return) or last.value is None:
            raise _fail(last, "a graph ends with return")
        results = list(last.value.elts) if isinstance(last.value, ast.Tuple) else [last.value]
        outputs, updates = [], {}
        for position, result in enumerate(results):
            if isinstance(result, ast.NamedExpr):
                target = self.value(result.target)
                if target not in inputs:
                    raise _fail(result, f"{result.target.id} is no input, so it cannot be updated")
                updates[position] = inputs.index(target)
                result = result.value
            outputs.append(self.value(result))
        return Graph(
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            effects=tuple(dict.fromkeys(self.effects)),
            updates=updates,
            input_names=tuple(argument.arg for argument in arguments.args),
        )

    def input(self, index: int, argument: ast.arg) -> Node:
        annotation = argument.annotation
        if annotation is None:
            raise _fail(argument, f"input {argument.arg} has no type")
        scalar = (
            isinstance(annotation, ast.Subscript)
            and isinstance(annotation.value, ast.Name)
            and annotation.value.id == "scalar"
        )
        type = _type(annotation.slice if isinstance(annotation, ast.Subscript) and scalar else annotation)
        node = self.make(argument, OPS["input"], (), {"index": index, "type": type, "scalar": scalar})
        self.define(argument, argument.arg, node)
        return node

    def define(self, at: ast.AST, name: str, node: Node) -> None:
        if name in self.values:
            raise _fail(at, f"{name} is defined twice")
        self.values[name] = node

    def value(self, node: ast.expr) -> Node:
        name = _name(node)
        if name not in self.values:
            raise _fail(node, f"{name} is not defined")
        return self.values[name]

    def statement(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.FunctionDef):
            if self.depth >= MAX_NESTING:
                raise _fail(statement, f"graphs are nested at most {MAX_NESTING} deep")
            self.groups[statement.name] = _Reader(self.symbols, self.depth + 1).function(statement)
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            type = _type(statement.annotation)
            node = self.expression(statement.value, type)
            if node.type != type:
                raise _fail(statement, f"{_name(statement.target)} is declared {type}, but it is {node.type}")
            if node.op.kind is Kind.EFFECT:
                self.effects.append(node)
            self.define(statement, _name(statement.target), node)
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Tuple):
            self.several(statement, statement.targets[0].elts)
        else:
            raise _fail(statement, "a line is 'name: type = operation(values, attribute=…)'")

    def several(self, statement: ast.Assign, targets: Sequence[ast.expr]) -> None:
        """A line with several results: of a group, a loop or a branch."""
        call = statement.value
        if not isinstance(call, ast.Call):
            raise _fail(statement, "several results come from a call")
        op = OPS.get(_name(call.func))
        if op is not None and op.kind is Kind.CONTROL:
            if any(keyword.arg is None for keyword in call.keywords):
                raise _fail(call, "attributes are written one by one")
            attributes = {str(keyword.arg): self.attribute(keyword.value) for keyword in call.keywords}
            node = self.make(statement, op, self.operands(call.args), attributes)
            if may_raise(node):
                self.effects.append(node)
        else:
            node = self.group(call)
        if len(targets) != len(node.type):
            raise _fail(statement, f"{_name(call.func)} has {len(node.type)} results, not {len(targets)}")
        for index, target in enumerate(targets):
            if _name(target) != "_":
                self.define(target, _name(target), self.make(statement, ITEM, (node,), {"index": index}))

    def group(self, call: ast.Call) -> Node:
        if call.keywords or _name(call.func) not in self.groups:
            raise _fail(call, "several results come from a function defined above")
        graph = self.groups[_name(call.func)]
        if len(call.args) != len(graph.inputs):
            raise _fail(call, f"{_name(call.func)} takes {len(graph.inputs)} values, not {len(call.args)}")
        sources = tuple(self.operand(argument, leaf.type) for argument, leaf in zip(call.args, graph.inputs))
        return self.make(call, GROUP, sources, {"graph": graph})

    def attribute(self, node: ast.expr) -> Any:
        """An attribute of a loop or a branch: a graph defined above, a tuple of them, or an ordinary one."""
        if isinstance(node, ast.Name) and node.id in self.groups:
            return self.groups[node.id]
        if isinstance(node, ast.Tuple):
            return tuple(self.attribute(element) for element in node.elts)
        return _literal(node)

    def expression(self, node: ast.expr, type: TensorType) -> Node:
        """The value of a line's right-hand side, of which the line says the type."""
        if isinstance(node, ast.Call):
            return self.call(node, type)
        if isinstance(node, ast.BinOp):
            return self.operator(node, node.op, [node.left, node.right])
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return self.operator(node, node.ops[0], [node.left, node.comparators[0]])
        if isinstance(node, ast.UnaryOp):
            return self.operator(node, node.op, [node.operand])
        raise _fail(node, "an operation was expected")

    def operator(self, at: ast.expr, operator: ast.AST, operands: list[ast.expr]) -> Node:
        symbol = _SYMBOLS.get(operator.__class__, operator.__class__.__name__)
        op = self.symbols.get((symbol, len(operands)))
        if op is None:
            raise _fail(at, f"there is no operation {symbol} of {len(operands)} values")
        return self.make(at, op, self.operands(operands), {})

    def call(self, node: ast.Call, type: TensorType) -> Node:
        name = _name(node.func)
        if any(keyword.arg is None for keyword in node.keywords):
            raise _fail(node, "attributes are written one by one")
        if name == "constant":
            value = _number(node.args[0]) if len(node.args) == 1 and not node.keywords else None
            if value is None:
                raise _fail(node, "a constant is a number, with the type of its line")
            return self.constant(node, value, type)
        op = OPS.get(name)
        if op is None or name in ("input", "group", "item") or op.kind is Kind.CONTROL:
            raise _fail(node, f"there is no operation {name}")
        attributes = {str(keyword.arg): _literal(keyword.value) for keyword in node.keywords}
        return self.make(node, op, self.operands(node.args), attributes)

    def operands(self, operands: Sequence[ast.expr]) -> tuple[Node, ...]:
        """The values of an operation; numbers among them have the type of the last that is none."""
        type: TensorType | None = None
        for operand in reversed(operands):
            if _number(operand) is None:
                type = self.value(operand).type
                break
        return tuple(self.operand(operand, type) for operand in operands)

    def operand(self, operand: ast.expr, type: TensorType | None) -> Node:
        number = _number(operand)
        if number is None:
            return self.value(operand)
        if type is None:
            raise _fail(operand, "the type of this number cannot be told; write it on a line of its own")
        return self.constant(operand, number, type)

    def constant(self, at: ast.expr, value: Number, declared: TensorType) -> Node:
        kind = declared.dtype.kind
        fits = isinstance(value, bool) if kind == "b" else type(value) is int if kind in "iu" else True
        if not fits:
            raise _fail(at, f"{value!r} is no value of type {declared}")
        try:
            with np.errstate(over="ignore"):
                value = np.asarray(value, declared.dtype).item()
        except (OverflowError, ValueError) as error:
            raise _fail(at, f"{value!r} is no value of type {declared}: {error}") from None
        return self.make(at, OPS["constant"], (), {"value": value, "dtype": declared.dtype, "shape": declared.shape})
