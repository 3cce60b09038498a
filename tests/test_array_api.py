"""The array API standard's namespace: names, parameters, and what is easily got wrong."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

import knetc as kn

xp = kn.array_api

#: The standard's functions of version 2024.12, with their parameters; those for complex numbers alone, the Fourier
#: transforms and linear algebra's are apart.
STANDARD = """
abs(x, /) acos(x, /) acosh(x, /) add(x1, x2, /) asin(x, /) asinh(x, /) atan(x, /) atan2(x1, x2, /) atanh(x, /)
bitwise_and(x1, x2, /) bitwise_left_shift(x1, x2, /) bitwise_invert(x, /) bitwise_or(x1, x2, /)
bitwise_right_shift(x1, x2, /) bitwise_xor(x1, x2, /) ceil(x, /) clip(x, /, min=None, max=None) conj(x, /)
copysign(x1, x2, /) cos(x, /) cosh(x, /) divide(x1, x2, /) equal(x1, x2, /) exp(x, /) expm1(x, /) floor(x, /)
floor_divide(x1, x2, /) greater(x1, x2, /) greater_equal(x1, x2, /) hypot(x1, x2, /) imag(x, /) isfinite(x, /)
isinf(x, /) isnan(x, /) less(x1, x2, /) less_equal(x1, x2, /) log(x, /) log1p(x, /) log2(x, /) log10(x, /)
logaddexp(x1, x2, /) logical_and(x1, x2, /) logical_not(x, /) logical_or(x1, x2, /) logical_xor(x1, x2, /)
maximum(x1, x2, /) minimum(x1, x2, /) multiply(x1, x2, /) negative(x, /) nextafter(x1, x2, /) not_equal(x1, x2, /)
positive(x, /) pow(x1, x2, /) real(x, /) reciprocal(x, /) remainder(x1, x2, /) round(x, /) sign(x, /) signbit(x, /)
sin(x, /) sinh(x, /) sqrt(x, /) square(x, /) subtract(x1, x2, /) tan(x, /) tanh(x, /) trunc(x, /)
arange(start, /, stop=None, step=1, *, dtype=None, device=None) asarray(obj, /, *, dtype=None, device=None, copy=None)
empty(shape, *, dtype=None, device=None) empty_like(x, /, *, dtype=None, device=None)
eye(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None) from_dlpack(x, /, *, device=None, copy=None)
full(shape, fill_value, *, dtype=None, device=None) full_like(x, /, fill_value, *, dtype=None, device=None)
linspace(start, stop, /, num, *, dtype=None, device=None, endpoint=True) meshgrid(*arrays, indexing='xy')
ones(shape, *, dtype=None, device=None) ones_like(x, /, *, dtype=None, device=None) tril(x, /, *, k=0)
triu(x, /, *, k=0) zeros(shape, *, dtype=None, device=None) zeros_like(x, /, *, dtype=None, device=None)
astype(x, dtype, /, *, copy=True, device=None) broadcast_arrays(*arrays) broadcast_to(x, /, shape)
can_cast(from_, to, /) finfo(type, /) iinfo(type, /) isdtype(dtype, kind) result_type(*arrays_and_dtypes)
take(x, indices, /, *, axis=None) take_along_axis(x, indices, /, *, axis=-1)
matmul(x1, x2, /) matrix_transpose(x, /) tensordot(x1, x2, /, *, axes=2) vecdot(x1, x2, /, *, axis=-1)
concat(arrays, /, *, axis=0) expand_dims(x, /, *, axis=0) flip(x, /, *, axis=None) moveaxis(x, source, destination, /)
permute_dims(x, /, axes) repeat(x, repeats, /, *, axis=None) reshape(x, /, shape, *, copy=None)
roll(x, /, shift, *, axis=None) squeeze(x, /, axis) stack(arrays, /, *, axis=0) tile(x, repetitions, /)
unstack(x, /, *, axis=0) argmax(x, /, *, axis=None, keepdims=False) argmin(x, /, *, axis=None, keepdims=False)
count_nonzero(x, /, *, axis=None, keepdims=False) nonzero(x, /)
searchsorted(x1, x2, /, *, side='left', sorter=None) where(condition, x1, x2, /)
unique_all(x, /) unique_counts(x, /) unique_inverse(x, /) unique_values(x, /)
argsort(x, /, *, axis=-1, descending=False, stable=True) sort(x, /, *, axis=-1, descending=False, stable=True)
cumulative_prod(x, /, *, axis=None, dtype=None, include_initial=False)
cumulative_sum(x, /, *, axis=None, dtype=None, include_initial=False) max(x, /, *, axis=None, keepdims=False)
mean(x, /, *, axis=None, keepdims=False) min(x, /, *, axis=None, keepdims=False)
prod(x, /, *, axis=None, dtype=None, keepdims=False) std(x, /, *, axis=None, correction=0.0, keepdims=False)
sum(x, /, *, axis=None, dtype=None, keepdims=False) var(x, /, *, axis=None, correction=0.0, keepdims=False)
all(x, /, *, axis=None, keepdims=False) any(x, /, *, axis=None, keepdims=False)
diff(x, /, *, axis=-1, n=1, prepend=None, append=None)
"""

LINALG = """
cholesky(x, /, *, upper=False) cross(x1, x2, /, *, axis=-1) det(x, /) diagonal(x, /, *, offset=0) eigh(x, /)
eigvalsh(x, /) inv(x, /) matmul(x1, x2, /) matrix_norm(x, /, *, keepdims=False, ord='fro') matrix_power(x, n, /)
matrix_rank(x, /, *, rtol=None) matrix_transpose(x, /) outer(x1, x2, /) pinv(x, /, *, rtol=None)
qr(x, /, *, mode='reduced') slogdet(x, /) solve(x1, x2, /) svd(x, /, *, full_matrices=True) svdvals(x, /)
tensordot(x1, x2, /, *, axes=2) trace(x, /, *, offset=0, dtype=None) vecdot(x1, x2, /, *, axis=-1)
vector_norm(x, /, *, axis=None, keepdims=False, ord=2)
"""


def signatures(text: str) -> dict[str, inspect.Signature]:
    """Functions written as they are called, with their parameters."""
    found = {}
    for call in text.replace(") ", ")\n").strip().splitlines():
        name, _, parameters = call.strip().partition("(")
        scope: dict[str, Any] = {}
        exec(f"def {name}({parameters}: pass", scope)
        found[name] = inspect.signature(scope[name])
    return found


def check(name: str, wanted: inspect.Signature, function: Any) -> None:
    """Whether a function can be called in every way that the standard allows, with the same defaults."""
    ours = inspect.signature(function).parameters
    places = [p for p in ours.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = any(p.kind is p.VAR_POSITIONAL for p in ours.values())
    for place, parameter in enumerate(wanted.parameters.values()):
        if parameter.kind is parameter.VAR_POSITIONAL:
            assert rest, f"{name} takes any number of arrays"
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            assert place < len(places), f"{name} takes {parameter.name} as argument {place}"
            mine = places[place]
        else:
            assert parameter.name in ours, f"{name} takes {parameter.name}="
            mine = ours[parameter.name]
        if parameter.default is not parameter.empty:
            assert mine.default == parameter.default, f"{name}: {parameter.name} is {parameter.default} by default"


@pytest.mark.parametrize(("name", "wanted"), [*signatures(STANDARD).items()], ids=lambda v: v if type(v) is str else "")
def test_functions(name: str, wanted: inspect.Signature) -> None:
    check(name, wanted, getattr(xp, name))
    assert name in xp.__all__


@pytest.mark.parametrize(("name", "wanted"), [*signatures(LINALG).items()], ids=lambda v: v if type(v) is str else "")
def test_linear_algebra(name: str, wanted: inspect.Signature) -> None:
    check(name, wanted, getattr(xp.linalg, name))


def test_a_wrong_signature_is_caught() -> None:
    with pytest.raises(AssertionError, match="takes axis="):
        check("sum", signatures("sum(x, /, *, axis=None)")["sum"], lambda x: x)
    with pytest.raises(AssertionError, match="by default"):
        check("sum", signatures("sum(x, /, *, axis=None)")["sum"], lambda x, axis=0: x)


def test_the_namespace_of_an_array() -> None:
    for x in (kn.ones(3), kn.Param([1.0])):
        assert x.__array_namespace__() is xp and x.__array_namespace__(api_version="2024.12") is xp
    with pytest.raises(ValueError, match=r"2024\.12"):
        kn.ones(3).__array_namespace__(api_version="2031.12")
    assert xp.__array_api_version__ == "2024.12"


def test_dtypes_and_what_is_known_of_them() -> None:
    assert xp.asarray(1.5).dtype == xp.float32 and xp.asarray(16777217.0, dtype=xp.float64).item() == 16777217
    assert xp.asarray([0.1], dtype=xp.float64).item() == 0.1
    assert (xp.finfo(xp.float32).eps, xp.finfo(xp.float64).bits, xp.iinfo(xp.uint8).max) == (2.0**-23, 64, 255)
    for dtype in (xp.float16, xp.float32, xp.float64):
        known, numpys = xp.finfo(dtype), np.finfo(dtype)
        assert (known.max, known.min, known.smallest_normal) == (numpys.max, numpys.min, numpys.smallest_normal)
    assert xp.isdtype(xp.int8, "signed integer") and xp.isdtype(xp.uint8, ("bool", "integral"))
    assert not xp.isdtype(xp.float32, "integral") and xp.isdtype(xp.float32, xp.float32)
    assert xp.can_cast(xp.int8, xp.int32) and not xp.can_cast(xp.float64, xp.float32)
    assert xp.result_type(xp.int8, kn.ones(2), 3) == xp.float32
    info = xp.__array_namespace_info__()
    assert info.default_dtypes()["integral"] == xp.int64 and set(info.dtypes(kind="bool")) == {"bool"}
    assert info.default_device() in info.devices() and info.capabilities()["boolean indexing"]
    for call, error in (
        (lambda: xp.finfo(xp.int8), TypeError),
        (lambda: xp.iinfo(xp.float32), TypeError),
        (lambda: xp.isdtype(xp.int8, "whole"), ValueError),
        (lambda: xp.result_type(1, 2.0), ValueError),
        (lambda: xp.asarray([1, 2], copy=False), ValueError),
    ):
        with pytest.raises(error):
            call()


def test_functions_whose_parameters_are_the_standards_own() -> None:
    x = xp.asarray([1, 4, 9, 2], dtype=xp.int8)
    assert xp.clip(x, 2, 5).tolist() == [2, 4, 5, 2] and xp.clip(x, max=kn.array(5)).dtype == xp.int8
    assert xp.diff(x, n=2, append=xp.asarray([0], dtype=xp.int8)).tolist() == [2, -12, 5]
    assert xp.searchsorted(xp.sort(x), xp.asarray([3, 9], dtype=xp.int8), side="right").tolist() == [2, 4]
    assert xp.nonzero(x > 3)[0].tolist() == [1, 2] and xp.reshape(x, (2, 2)).tolist() == [[1, 4], [9, 2]]
    assert xp.astype(x, xp.int8, copy=False) is x and xp.astype(x, xp.float32).dtype == xp.float32
    assert xp.asarray(x) is x and xp.asarray(x, copy=True) is not x
    assert xp.imag(x).tolist() == [0, 0, 0, 0] and complex(kn.array(2.0)) == 2 + 0j
    shared = np.arange(3.0)
    assert np.shares_memory(np.asarray(xp.from_dlpack(shared)), shared)
    assert not np.shares_memory(np.asarray(xp.from_dlpack(shared, copy=True)), shared)
    with pytest.raises(ValueError, match="one dimension"):
        xp.nonzero(xp.asarray(1))


def test_devices() -> None:
    x = kn.ones(2)
    assert x.to_device(x.device) is x and xp.zeros(3, device="cpu").device == "cpu"
    with pytest.raises(ValueError, match="stream"):
        x.to_device("cpu", stream=1)


def test_powers_of_a_half_are_powers_not_roots() -> None:
    x = [-np.inf, -0.0, 4.0, np.inf]
    for exponent, wanted in ((0.5, [np.inf, 0.0, 2.0, np.inf]), (-0.5, [0.0, np.inf, 0.5, 0.0])):
        base = kn.array(x)
        for found in (
            base**exponent,
            xp.pow(base, kn.full((4,), exponent)),
            kn.compile(lambda x, k=exponent: x**k)(base),
        ):
            assert found.tolist() == wanted and not np.signbit(found).any()
    assert kn.grad(lambda x: kn.sum(x**0.5))(kn.array([4.0])).tolist() == [0.25]


def test_a_negative_nan_keeps_its_sign() -> None:
    for sign in (1, -1, 1):
        assert xp.signbit(xp.asarray(math.copysign(math.nan, sign))).item() == (sign < 0)


def test_masks_without_elements_select_nothing() -> None:
    x = kn.ones((2, 3))
    for shape in ((0, 3), (2, 0), (0, 0), (0,)):
        mask = np.zeros(shape, bool)
        assert x[mask].shape == np.ones((2, 3))[mask].shape
        x[mask] = 5.0
    assert x.tolist() == [[1.0] * 3] * 2
    with pytest.raises(IndexError, match="does not fit"):
        x[np.zeros((0, 2), bool)]


def test_empty_stacks_of_matrices() -> None:
    for name in ("eigh", "svd", "qr", "eig", "inv", "pinv"):
        for shape in ((0, 2, 2), (2, 0, 0), (0, 0)):
            ours, numpys = (getattr(m.linalg, name)(m.zeros(shape)) for m in (kn, np))
            for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (ours, numpys))):
                assert a.shape == b.shape
    assert xp.linalg.matrix_rank(kn.zeros((2, 0, 3))).tolist() == [0, 0]
    assert xp.linalg.matrix_rank(kn.array([[[1.0, 0], [0, 0.5]]] * 2), rtol=kn.array([0.1, 0.9])).tolist() == [2, 1]


def test_diagonals_that_are_far_out() -> None:
    x = kn.ones((2, 2))
    assert (
        xp.eye(2, k=10**30).tolist() == xp.tril(x, k=-(10**30)).tolist() == xp.triu(x, k=3).tolist() == [[0.0] * 2] * 2
    )


def test_an_axis_that_is_not_there_is_an_index_error_too() -> None:
    for error in (kn.AxisError, IndexError, ValueError):
        with pytest.raises(error, match="there is no axis 3"):
            xp.expand_dims(kn.ones((2, 2)), axis=3)
