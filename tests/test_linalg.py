"""Linear algebra: values against NumPy, gradients to second order against differences, errors."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from knetc.runtime.base import dtypes

import knetc as kn
from knetc.ir.build import trace_function
from knetc.ir.interpret import interpret
from knetc.ir.node import Node
from knetc.ir.types import TensorType
from knetc.ops import linalg, matrices, norms, reduction
from knetc.ops.linear import swapped
from knetc.passes.differentiate import gradients

_random = np.random.default_rng(7)
_GENERAL = _random.normal(size=(2, 3, 3)) + 2 * np.eye(3)
_TALL, _WIDE = _random.normal(size=(4, 3)), _random.normal(size=(3, 4))
_REAL = np.stack([np.diag([1.0, 2.5, -1.5]) + 0.2 * _random.normal(size=(3, 3)) for _ in range(2)])
_Q = np.array([[4.0, 1.0], [2.0, 3.0]])


def symmetric(x: Node) -> Node:
    return 0.5 * (x + swapped(x))


def definite(x: Node) -> Node:
    return x @ swapped(x) + symmetric(x) @ symmetric(x)


def of_signs(q: Node) -> Node:
    """Vectors without their signs, which are nobody's choice."""
    return (q * 0.3 + 1) * q


def signless(u: Node, s: Node, vh: Node) -> Node:
    return (u @ vh) @ u @ vh


CASES: dict[str, tuple[Callable[..., Any], list[np.ndarray]]] = {
    "det": (linalg.det, [_GENERAL]),
    "slogdet": (lambda x: linalg.slogdet(x).logabsdet, [_GENERAL]),
    "logdet": (lambda x: linalg.logdet(definite(x)), [_GENERAL]),
    "inv": (linalg.inv, [_GENERAL]),
    "solve": (linalg.solve, [_GENERAL, _random.normal(size=(2, 3, 2))]),
    "solve one vector": (linalg.solve, [_GENERAL, _random.normal(size=3)]),
    "solve many for one matrix": (linalg.solve, [_GENERAL[0], _random.normal(size=(2, 3, 1))]),
    "cholesky": (lambda x: linalg.cholesky(definite(x)), [_GENERAL]),
    "Q": (lambda x: linalg.qr(x).Q, [_GENERAL]),
    "R": (lambda x: linalg.qr(x).R, [_GENERAL]),
    "QR": (lambda x: linalg.qr(x).Q * 2 + linalg.qr(x).R, [_GENERAL]),
    "tall Q": (lambda x: linalg.qr(x).Q, [_TALL]),
    "wide R": (lambda x: linalg.qr(x).R, [_WIDE]),
    "eigenvalues": (lambda x: linalg.eigh(symmetric(x)).eigenvalues, [_GENERAL]),
    "eigenvectors": (lambda x: of_signs(linalg.eigh(symmetric(x)).eigenvectors), [_GENERAL]),
    "S": (linalg.svdvals, [_WIDE]),
    "U": (lambda x: of_signs(linalg.svd(x).U), [_TALL]),
    "Vh": (lambda x: of_signs(linalg.svd(x).Vh), [_WIDE]),
    "USVh": (lambda x: signless(*linalg.svd(x)), [_GENERAL]),
    "pinv of a tall one": (linalg.pinv, [_TALL]),
    "pinv of a wide one": (linalg.pinv, [_WIDE]),
    "norm": (norms.norm, [_TALL]),
    "norm 3": (lambda x: norms.norm(x, 3), [_TALL]),
    "norm 1": (lambda x: norms.norm(x, 1), [_TALL]),
    "norm inf": (lambda x: norms.norm(x, math.inf), [_TALL]),
    "matrix norm 2": (lambda x: norms.matrix_norm(x, ord=2), [_GENERAL]),
    "matrix norm -2": (lambda x: norms.matrix_norm(x, ord=-2), [_TALL]),
    "nuclear norm": (lambda x: norms.matrix_norm(x, ord="nuc"), [_WIDE]),
    "matrix norm 1": (lambda x: norms.matrix_norm(x, ord=1), [_GENERAL]),
    "matrix norm -inf": (lambda x: norms.matrix_norm(x, ord=-math.inf), [_GENERAL]),
    "kron": (linalg.kron, [_TALL, _Q]),
    "trace": (lambda x: linalg.trace(x, 1), [_GENERAL]),
    "matrix_power": (lambda x: matrices.matrix_power(x, -3), [_GENERAL]),
    "eigenvalues of any": (lambda x: matrices.eig(x).eigenvalues, [_REAL]),
    "eigenvectors of any": (lambda x: of_signs(matrices.eig(x).eigenvectors), [_REAL]),
    "cond": (matrices.cond, [_GENERAL]),
    "cond 1": (lambda x: matrices.cond(x, 1), [_GENERAL]),
    "lstsq": (lambda a, b: matrices.lstsq(a, b).x, [_TALL, _random.normal(size=(4, 2))]),
    "lstsq of a wide one": (lambda a, b: matrices.lstsq(a, b).x, [_WIDE, _random.normal(size=3)]),
    "multi_dot": (lambda a, b, c: matrices.multi_dot([a, b, c, b]), [_TALL, _WIDE, _TALL]),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_to_second_order(name: str) -> None:
    function, arrays = CASES[name]

    types = [TensorType(dtypes.f64, a.shape) for a in arrays]
    shape = trace_function(lambda *xs: [function(*xs)], *types).outputs[0].type
    inputs = [*arrays, np.cos(np.arange(shape.size) * 1.7 + 1).reshape(shape.shape)]
    inputs += [np.sin(np.arange(a.size) * 1.3 + 1).reshape(a.shape) for a in arrays]
    count = len(arrays)

    def first(*nodes: Node) -> list[Node]:
        loss = reduction.sum(function(*nodes[:count]) * nodes[count])
        return [loss, *(g for g in gradients(loss, nodes[:count]) if g is not None)]

    def second(*nodes: Node) -> list[Node]:
        total: Any = 0.0
        for g, w in zip(first(*nodes)[1:], nodes[count + 1 :]):
            total = total + reduction.sum(g * w)
        found = gradients(total, nodes[:count]) if isinstance(total, Node) else []
        return [total, *(g if g is not None else 0.0 * x for g, x in zip(found, nodes))]

    every = [*types, shape, *types]
    for orders in (first, second):
        graph = trace_function(orders, *every)
        _, *computed = interpret(graph, inputs)
        for k, array in enumerate(arrays):
            direction = _random.normal(size=array.shape)
            step = 1e-5
            ends = [[*inputs[:k], array + s * direction, *inputs[k + 1 :]] for s in (step, -step)]
            high, low = (interpret(graph, end)[0] for end in ends)
            expected = (high - low) / (2 * step)
            assert np.vdot(computed[k], direction) == pytest.approx(expected, rel=2e-6, abs=2e-7)


SAME = "cholesky det eigh eigvalsh inv pinv qr slogdet svdvals"


@pytest.mark.parametrize("name", SAME.split())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_are_numpys(name: str, dtype: str) -> None:
    a = (_GENERAL @ np.swapaxes(_GENERAL, -1, -2)).astype(dtype)
    expected, found = getattr(np.linalg, name)(a), getattr(kn.linalg, name)(kn.array(a))
    parts = zip(expected, found, strict=True) if isinstance(expected, tuple) else [(expected, found)]
    for x, y in parts:
        assert y.dtype == x.dtype
        np.testing.assert_allclose(np.asarray(y), x, rtol=1e-4 if dtype == "float32" else 1e-10, atol=1e-5)


def test_svd_forms() -> None:
    a = kn.array(_TALL)
    u, s, vh = kn.svd(a)
    assert (u.shape, s.shape, vh.shape) == ((4, 3), (3,), (3, 3))
    np.testing.assert_allclose(np.asarray((u * s) @ vh), _TALL, atol=1e-12)
    assert kn.svd(a, full_matrices=True).U.shape == (4, 4)
    np.testing.assert_allclose(np.asarray(kn.svd(a, compute_uv=False)), np.linalg.svd(_TALL, compute_uv=False))


@pytest.mark.parametrize("order", [None, "fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf])
def test_norms_of_matrices_are_numpys(order: Any) -> None:
    a = kn.array(_TALL)
    assert float(kn.linalg.norm(a, order)) == pytest.approx(np.linalg.norm(_TALL, order))
    both = kn.array(_GENERAL)
    if order is not None:
        expected = np.linalg.norm(_GENERAL, order, axis=(0, 2), keepdims=True)
        found = kn.linalg.norm(both, order, axis=(0, 2), keepdims=True)
        np.testing.assert_allclose(np.asarray(found), expected)


@pytest.mark.parametrize("order", [None, 0, 1, 2, 3, 0.5, -1, math.inf, -math.inf])
def test_norms_of_vectors_are_numpys(order: Any) -> None:
    expected = np.linalg.norm(_TALL, order, axis=1)
    np.testing.assert_allclose(np.asarray(kn.linalg.norm(kn.array(_TALL), order, axis=1)), expected)


def test_knets_norm() -> None:
    x = kn.array(np.array([3.0, 4.0]))
    found = [float(kn.norm(x, p)) for p in (2, 1, math.inf, 0, -math.inf, 3)]
    assert found == pytest.approx([5, 7, 4, 2, 3, 4.497941], rel=1e-6)
    assert np.asarray(kn.grad(kn.norm)(x)) == pytest.approx(np.array([0.6, 0.8]))
    assert np.asarray(kn.grad(kn.norm)(kn.zeros(3))).tolist() == [0, 0, 0]
    assert float(kn.norm(kn.array(_Q))) == pytest.approx(np.sqrt(30))


def test_knets_numbers() -> None:
    q = kn.array(_Q)
    assert float(kn.det(q)) == pytest.approx(10)
    np.testing.assert_allclose(np.asarray(kn.grad(kn.det)(q)), [[3, -2], [-1, 4]])
    np.testing.assert_allclose(np.asarray(kn.grad(kn.logdet)(q)), [[0.3, -0.2], [-0.1, 0.4]])
    gradient = kn.grad(lambda a: kn.sum(kn.inv(a)))(q)
    np.testing.assert_allclose(np.asarray(gradient), [[-0.02, -0.02], [-0.06, -0.06]], atol=1e-15)


def test_numpys_functions_take_arrays() -> None:
    q, b = kn.array(_Q), kn.array(np.array([1.0, 2.0]))
    np.testing.assert_allclose(np.asarray(np.linalg.solve(q, b)), [0.1, 0.6])
    for name in ("inv", "det", "cholesky", "norm", "svd", "qr", "eigh", "slogdet", "pinv"):
        result = getattr(np.linalg, name)(q @ q.T)
        assert isinstance(result[0] if isinstance(result, tuple) else result, kn.Array)
    assert isinstance(np.kron(q, q), kn.Array)
    cube = np.arange(24.0).reshape(2, 3, 4)
    assert np.asarray(np.trace(kn.array(cube), 1)).tolist() == np.trace(cube, 1).tolist()
    whole = np.linalg.qr(kn.array(_TALL), "complete")
    np.testing.assert_allclose(np.asarray(whole.Q @ whole.R), _TALL, atol=1e-12)
    assert whole.Q.shape == (4, 4) and np.linalg.qr(q, "r").shape == (2, 2)
    with pytest.raises(kn.UnsupportedError, match="the mode is"):
        np.linalg.qr(q, "raw")


def test_inside_a_compiled_step() -> None:
    w = kn.Param(_Q)

    @kn.compile
    def step(target: Any) -> Any:
        tape = kn.diff(lambda: kn.sum((kn.inv(w) - target) ** 2) + kn.logdet(w @ w.T))
        w[...] = w - 0.1 * kn.grad(tape, w)
        return kn.value(tape)

    losses = [float(step(kn.array(np.eye(2)))) for _ in range(3)]
    other = kn.Param(_Q)
    for loss in losses:
        tape = kn.diff(lambda: kn.sum((kn.inv(other) - kn.array(np.eye(2))) ** 2) + kn.logdet(other @ other.T))
        assert float(kn.value(tape)) == pytest.approx(loss)
        other[...] = other - 0.1 * kn.grad(tape, other)
    assert "lapack.inv" in kn.summary(step)


def test_equal_calls_are_one() -> None:
    @kn.compile
    def both(a: Any) -> Any:
        return kn.sum(kn.inv(a)) + kn.max(kn.inv(a))

    both(kn.array(_Q))
    assert kn.summary(both).count("lapack.inv") == 1


def test_singular_matrices() -> None:
    w = kn.Param(np.ones((2, 2)))

    @kn.compile
    def step() -> Any:
        w[...] = w * 2
        return kn.sum(kn.inv(w))

    for function in (step, lambda: np.asarray(kn.inv(w))):
        with pytest.raises(kn.LinearAlgebraError, match=r"inv\(float64\[2, 2\]\): .* singular.*\n.*test_linalg"):
            function()
    assert np.asarray(w).tolist() == [[1, 1], [1, 1]]
    with pytest.raises(kn.LinearAlgebraError, match="positive definite"):
        np.asarray(kn.cholesky(kn.array(-_Q)))
    assert float(kn.det(w)) == 0
    assert [float(x) for x in kn.slogdet(w)] == [0, -math.inf]
    assert math.isnan(float(kn.logdet(kn.array(np.diag([1.0, -1.0])))))


def test_bad_operands() -> None:
    for function in (kn.det, kn.inv, kn.cholesky, kn.eigh):
        with pytest.raises(kn.ShapeError, match="square"):
            function(kn.ones((2, 3)))
        with pytest.raises(kn.ShapeError, match="matrices"):
            function(kn.ones(3))
    with pytest.raises(kn.ShapeError, match="solve"):
        kn.solve(kn.ones((2, 2)), kn.ones(3))
    with pytest.raises(kn.DtypeError, match="astype"):
        kn.inv(kn.ones((2, 2), dtype="float16"))
    assert kn.inv(kn.array([[2, 0], [0, 4]])).dtype == np.float32
    with pytest.raises(ValueError, match="nuc"):
        kn.linalg.matrix_norm(kn.ones((2, 2)), ord=5)


def test_empty_stacks() -> None:
    assert kn.inv(kn.zeros((0, 2, 2))).shape == (0, 2, 2)
    assert np.asarray(kn.inv(kn.zeros((0, 2, 2)))).shape == (0, 2, 2)
    assert float(kn.det(kn.zeros((0, 0)))) == 1


def test_a_kept_program_calls_lapack(tmp_path: Path) -> None:
    text = (
        "import sys, knetc as kn\n"
        "print(float(kn.sum(kn.inv(kn.array([[4.0, 1.0], [2.0, 3.0]])) * 3)))\n"
        "print('llvmlite' in sys.modules)"
    )
    environment = {**os.environ, "KNETC_CACHE_DIR": str(tmp_path)}
    for compiled in (True, False):
        done = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, cwd="/")
        value, used = done.stdout.split()
        assert float(value) == pytest.approx(1.2, rel=1e-6), done.stderr
        assert used == str(compiled)


def test_square_factors_of_a_rectangle_are_not_differentiated_silently() -> None:
    a = np.random.default_rng(0).standard_normal((4, 2))
    full = kn.grad(lambda x: kn.sum(kn.linalg.svd(x, full_matrices=True)[1]))(a)
    np.testing.assert_allclose(np.asarray(full), np.asarray(kn.grad(lambda x: kn.sum(kn.linalg.svdvals(x)))(a)))
    with pytest.raises(kn.DifferentiationError, match="full_matrices"):
        kn.grad(lambda x: kn.sum(kn.linalg.svd(x, full_matrices=True)[0]))(a)


def test_eig_of_matrices_with_real_eigenvalues() -> None:
    found = kn.linalg.eig(kn.array(_REAL))
    values, vectors = np.asarray(found.eigenvalues), np.asarray(found.eigenvectors)
    np.testing.assert_allclose(_REAL @ vectors, vectors * values[:, None, :], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-2), 1)
    with pytest.raises(kn.LinearAlgebraError, match="some eigenvalues are complex numbers"):
        kn.linalg.eigvals(kn.array([[0.0, 1.0], [-1.0, 0.0]])).numpy()


def test_least_squares_of_a_matrix_without_full_rank() -> None:
    a, b = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], np.float32), np.array([1.0, 2.0, 4.0], np.float32)
    x, residuals, rank, values = kn.lstsq(kn.array(a), kn.array(b))
    expected = np.linalg.lstsq(a, b, None)
    np.testing.assert_allclose(np.asarray(x), expected[0], rtol=1e-5)
    assert int(rank) == 1 and float(residuals) == pytest.approx(float(np.sum((a @ expected[0] - b) ** 2)), rel=1e-5)
    np.testing.assert_allclose(np.asarray(values), expected[3], atol=1e-6)
