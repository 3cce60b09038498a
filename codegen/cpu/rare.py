"""Code for values that hardly ever occur, beside loops that LLVM widens.

A branch in a loop's body keeps it from being widened, and computing the rare case for every element is too dear. So the
body calls a function that gives back its second operand unless its first, a flag, is set. LLVM is told of variants of
that function for vectors, and widens the loop around the call. Only after the optimisation are the functions' bodies
linked in (``native.compile_ir`` does that, behind ``SEPARATOR`` in the text): a test of all flags of a vector at once
and a branch to code that is never placed among the loop's.

Other code of which LLVM knows no wide form by itself takes the same way (see ``roots``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from knetc.codegen.cpu.emitter import LlvmEmitter, Scalar

SEPARATOR = "; --- linked after optimisation ---\n"

LANES = (2, 4, 8, 16, 32, 64)
"""Of the variants: the widths that LLVM chooses among."""

_PURE = "nounwind willreturn memory(none)"


def call(
    e: LlvmEmitter, name: str, flag: Scalar, usual: Scalar, function: Callable[..., Scalar], *operands: Scalar
) -> Scalar:
    """``usual``, or where the flag is set ``function(emitter, *operands)``; ``name`` stands for the function.

    >>> import numpy as np
    >>> from knetc.codegen.cpu.emitter import LlvmEmitter, Scalar
    >>> e, x = LlvmEmitter(), Scalar("%x", np.dtype("float32"))
    >>> tiny = e.compare("lt", e.abs(x), e.constant(1e-30, x.dtype))
    >>> call(e, "tiny_square", tiny, e.mul(x, x), lambda e, x: e.constant(0.0, x.dtype), x).dtype
    dtype('float32')
    """
    symbol = "_".join(["rare", name, *(o.dtype.name for o in (usual, *operands))])

    def define() -> str:
        body = type(e)(half=e.half, fused=e.fused)
        body.contract = False  # rare code is there to be exact
        arguments = [type(o)(f"%x{k}", o.dtype) for k, o in enumerate(operands)]
        result = function(body, *arguments)
        return _definitions(symbol, [o.typed.split()[0] for o in (flag, usual, *operands)], body, result)

    return call_late(e, symbol, define, usual.dtype, (flag, usual, *operands))


def call_late(
    e: LlvmEmitter, symbol: str, define: Callable[[], str], result: np.dtype, operands: Sequence[Scalar]
) -> Scalar:
    """Call a pure function that is linked in after the optimisation, when loops have been widened around the call.

    ``define`` writes the definitions: of ``symbol``, and of ``symbol_2``, ``symbol_4`` … for vectors (``LANES``).
    """
    scalars = [o.typed.split()[0] for o in operands]
    returned = e.constant(0, result).typed.split()[0]
    if symbol not in e.rare:
        e.rare[symbol] = define()
        e.declarations[f"declare {returned} @{symbol}({', '.join(scalars)}) {_PURE}"] = None
        for n in LANES:
            vectors = ", ".join(f"<{n} x {t}>" for t in scalars)
            e.declarations[f"declare <{n} x {returned}> @{symbol}_{n}({vectors}) {_PURE}"] = None
    variants = ",".join(f"_ZGV_LLVM_N{n}{'v' * len(scalars)}_{symbol}({symbol}_{n})" for n in LANES)
    passed = ", ".join(o.typed for o in operands)
    return e.value(f'call {returned} @{symbol}({passed}) {_PURE} "vector-function-abi-variant"="{variants}"', result)


def kept(symbols: Iterable[str]) -> list[str]:
    """The lines by which the optimiser keeps the declarations of variants that nothing calls yet."""
    names = [f"ptr @{symbol}_{lanes}" for symbol in symbols for lanes in LANES]
    if not names:
        return []
    return [
        f'@llvm.compiler.used = appending global [{len(names)} x ptr] [{", ".join(names)}], section "llvm.metadata"'
    ]


def late(definitions: Mapping[str, str], attributes: str) -> str:
    """What follows a module's text when it calls rare code: the separator and the code."""
    if not definitions:
        return ""
    lines = [line for text in definitions.values() for line in text.split("\n")]
    outside = dict.fromkeys(line for line in lines if _is_declaration(line))  # each once
    inside = [line for line in lines if not _is_declaration(line)]
    weights = '!1 = !{!"branch_weights", i32 1, i32 100000}'
    return SEPARATOR + "\n".join([*outside, *inside, attributes.rstrip("\n"), weights, ""])


def _is_declaration(line: str) -> bool:
    return line.startswith(("declare ", "@"))


def _definitions(symbol: str, scalars: list[str], body: LlvmEmitter, result: Scalar) -> str:
    """The rare code itself, and the functions with which loops call it: for one value and for vectors."""
    _, kind, *operands = scalars
    given = ", ".join(f"{t} %x{k}" for k, t in enumerate(operands))
    assert not body.rare, f"{symbol}: rare code has no rare code of its own"
    parts = [
        *body.declarations,
        *(f"declare i1 @llvm.vector.reduce.or.v{n}i1(<{n} x i1>)" for n in LANES),
        *(f"declare i{n} @llvm.cttz.i{n}(i{n}, i1)" for n in LANES),
        f"define internal {kind} @{symbol}_code({given}) noinline cold #0 {{",
        *body.lines,
        f"  ret {kind} {result.text}",
        "}",
        f"define linkonce_odr hidden {kind} @{symbol}(i1 %flag, {kind} %usual, {given}) alwaysinline #0 {{",
        "  br i1 %flag, label %rare, label %done, !prof !1",
        "rare:",
        f"  %made = call {kind} @{symbol}_code({given})",
        "  br label %done",
        "done:",
        f"  %result = phi {kind} [ %usual, %0 ], [ %made, %rare ]",
        f"  ret {kind} %result",
        "}",
    ]
    for n in LANES:
        vectors = [f"<{n} x {t}>" for t in operands]
        names = ", ".join(f"{t} %x{k}" for k, t in enumerate(vectors))
        whole = f"<{n} x {kind}>"
        given = f"<{n} x i1> %flags, {whole} %usual, {names}"
        parts += [
            f"define internal {whole} @{symbol}_loop_{n}({given}) noinline cold #0 {{",
            f"  %first = bitcast <{n} x i1> %flags to i{n}",  # of which at least one is set
            "  br label %next",
            "next:",
            f"  %left = phi i{n} [ %first, %0 ], [ %left1, %next ]",
            f"  %all = phi {whole} [ %usual, %0 ], [ %all1, %next ]",
            f"  %k = call i{n} @llvm.cttz.i{n}(i{n} %left, i1 true)",
            *(f"  %e{k} = extractelement {t} %x{k}, i{n} %k" for k, t in enumerate(vectors)),
            f"  %made = call {kind} @{symbol}_code({', '.join(f'{t} %e{k}' for k, t in enumerate(operands))})",
            f"  %all1 = insertelement {whole} %all, {kind} %made, i{n} %k",
            f"  %less = sub i{n} %left, 1",
            f"  %left1 = and i{n} %left, %less",
            f"  %more = icmp ne i{n} %left1, 0",
            "  br i1 %more, label %next, label %done",
            "done:",
            f"  ret {whole} %all1",
            "}",
            f"define linkonce_odr hidden {whole} @{symbol}_{n}({given}) alwaysinline #0 {{",
            f"  %f = freeze <{n} x i1> %flags",  # lanes that a mask left out hold anything
            f"  %any = call i1 @llvm.vector.reduce.or.v{n}i1(<{n} x i1> %f)",
            "  br i1 %any, label %rare, label %done, !prof !1",
            "rare:",
            f"  %made = call {whole} @{symbol}_loop_{n}(<{n} x i1> %f, {whole} %usual, {names})",
            "  br label %done",
            "done:",
            f"  %result = phi {whole} [ %usual, %0 ], [ %made, %rare ]",
            f"  ret {whole} %result",
            "}",
        ]
    return "\n".join([*parts, ""])
