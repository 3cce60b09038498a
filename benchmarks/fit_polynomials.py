"""Fits the polynomials of ``knetc/ops/vector_math.py`` and prints the text of ``vector_coefficients.py``.

Run: ``python benchmarks/fit_polynomials.py > knetc/ops/vector_coefficients.py`` (some seconds), then ``accuracy.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from textwrap import indent
from typing import Any

import mpmath as mp  # type: ignore[import-untyped]

mp.mp.dps = 50
Function = Callable[[Any], Any]


def remez(target: Function, weight: Function, degree: int, low: Any, high: Any) -> tuple[list[float], float]:
    """The polynomial of a degree with the least greatest weighted error on [low, high], and that error."""
    middle, radius, count = (low + high) / 2, (high - low) / 2, degree + 2
    nodes = [middle - radius * mp.cos(mp.pi * (k + mp.mpf("0.5")) / count) for k in range(count)]
    grid = [middle - radius * mp.cos(mp.pi * k / 1000) for k in range(1001)]
    targets, weights = [target(x) for x in grid], [weight(x) for x in grid]
    coefficients, greatest = [], mp.inf
    for _ in range(16):
        # the polynomial whose weighted errors at the nodes are equal, with alternating signs
        matrix, right = mp.matrix(count, count), mp.matrix(count, 1)
        for row, x in enumerate(nodes):
            for k in range(degree + 1):
                matrix[row, k] = x**k
            matrix[row, degree + 1] = (-1) ** row / weight(x)
            right[row] = target(x)
        solution = mp.lu_solve(matrix, right)
        coefficients = [solution[k] for k in range(degree + 1)]
        errors = [(t - mp.polyval(coefficients[::-1], x)) * w for x, t, w in zip(grid, targets, weights)]
        # the next nodes: the extreme error between two changes of sign
        extremes, best = [], 0
        for k in range(1, len(grid)):
            if (errors[k] > 0) != (errors[best] > 0):
                extremes.append(best)
                best = k
            elif abs(errors[k]) > abs(errors[best]):
                best = k
        extremes.append(best)
        greatest = max(abs(error) for error in errors)
        if len(extremes) < count:
            break
        while len(extremes) > count:
            extremes.pop(0 if abs(errors[extremes[0]]) < abs(errors[extremes[-1]]) else -1)
        nodes = [grid[k] for k in extremes]
        if greatest < mp.mpf("1.001") * min(abs(errors[k]) for k in extremes):
            break
    return [float(c) for c in coefficients], float(greatest)


@dataclass(frozen=True)
class Fit:
    """One polynomial: what is fitted, over what, weighted how; ``doc`` is what the file says of it."""

    name: str
    doc: str
    target: Function
    """By its value; at 0 by ``limit`` (most are quotients there)."""
    limit: Any
    weight: Function
    low: Any
    high: Any
    degrees: tuple[int, ...]
    """Of float32 and float64 where both have one, else of the only one."""


LN2, TINY, ROOT2 = mp.log(2), mp.mpf("1e-30"), mp.sqrt(2)
HALF_LN2 = LN2 / 2 * mp.mpf("1.002")
ATANH_TOP = ((ROOT2 - 1) / (ROOT2 + 1)) ** 2 * mp.mpf("1.002")
EIGHTH_TURN = (mp.pi / 4) ** 2 * mp.mpf("1.003")


def odd(function: Function) -> Function:
    """(function(x) / x - 1) / z of z = x²."""
    return lambda z: (function(mp.sqrt(z)) / mp.sqrt(z) - 1) / z


def atanh_quotient(z: Any) -> Any:
    return 2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z)


def scaled_erfc(t: Any) -> Any:
    x = 4 * (1 + t) / (1 - t)
    return (1 + 2 * x) * mp.exp(x * x) * mp.erfc(x)


def scaled_erfc_f32(t: Any) -> Any:
    x = 3 * (1 + t) / (1 - t)
    return mp.exp(x * x) * mp.erfc(x)


def log_of_complement(x: Any) -> Any:
    """log(erfc(x)) / x + 1."""
    return 1 + (mp.log(mp.erfc(x)) / x if x else -2 / mp.sqrt(mp.pi))


def weight_of_log(x: Any) -> Any:
    """What that is multiplied by, relative to erf."""
    return mp.erfc(x) * x / mp.erf(x) if x else mp.sqrt(mp.pi) / 2


def erfcx(x: Any) -> Any:
    """exp(x²) erfc(x); by the asymptotic series where the factors are out of range."""
    if x < 100:
        return mp.exp(x * x) * mp.erfc(x)
    terms = [mp.mpf(1)]
    for k in range(1, 18):
        terms.append(-terms[-1] * (2 * k - 1) / (2 * x * x))
    return mp.fsum(terms) / (x * mp.sqrt(mp.pi))


def scaled_erfcx(t: Any) -> Any:
    if t > 1 - mp.mpf("1e-40"):
        return 2 / mp.sqrt(mp.pi)
    x = 4 * (1 + t) / (1 - t)
    return (1 + 2 * x) * erfcx(x)


def inverse_erfc(s: Any) -> Any:
    """The number whose erfc is exp(-s²), by Newton's method on the logarithm."""
    y = mp.sqrt(max(s * s - mp.log(s * mp.sqrt(mp.pi) + 1), mp.mpf("0.1")))
    for _ in range(60):
        value = mp.erfc(y)
        step = (mp.log(value) + s * s) * value * mp.exp(y * y) * mp.sqrt(mp.pi) / 2
        y += step
        if abs(step) < mp.mpf("1e-40"):
            break
    return y


def inverse_erfc_quotient(t: Any) -> Any:
    s = 4 * (1 + t) / (1 - t)
    return inverse_erfc(s) / s


def inverse_erf_quotient(w: Any) -> Any:
    """erfinv(x) / x of w = -log(1 - x²)."""
    if w < mp.mpf("1e-20"):
        return mp.sqrt(mp.pi) / 2
    x = mp.sqrt(-mp.expm1(-w))
    if w < 3:
        return mp.erfinv(x) / x
    return inverse_erfc(mp.sqrt(w + mp.log(1 + x))) / x  # 1 - x = exp(-w) / (1 + x)


def part_of_step(k: int) -> Function:
    """Of d**k in what erf adds to its value at r, in v = 2 r d: F1, -F3, F5/2, -F7/6 of ``vector_errors``."""
    factor = mp.mpf(-1) ** (k // 2) / mp.factorial(k // 2)
    return lambda v: factor * mp.fsum((-v) ** n / (mp.factorial(n) * (n + k)) for n in range(30))


def weight_in_step(k: int, step: Any, of_complement: bool) -> Function:
    """What that is multiplied by at most, relative to erf or its complement; d is half the step then."""

    def weight(v: Any) -> Any:
        r = abs(v) / step
        slope = 2 / mp.sqrt(mp.pi) / (erfcx(r) if of_complement else mp.erf(r) * mp.exp(r * r) + TINY)
        return min(slope * step / 2, 1) * (step / 2) ** (k - 1)

    return weight


DIGAMMA_ROOT = mp.findroot(mp.digamma, 1.46)
LOG_ROOT_2PI = mp.log(2 * mp.pi) / 2


def stirling_rest(z: Any) -> Any:
    """x times what Stirling's formula lacks, of z = 1/x²."""
    x = 1 / mp.sqrt(z)
    return (mp.loggamma(x) - ((x - mp.mpf("0.5")) * mp.log(x) - x + LOG_ROOT_2PI)) * x


def digamma_rest(z: Any) -> Any:
    x = 1 / mp.sqrt(z)
    return (mp.log(x) - 1 / (2 * x) - mp.digamma(x)) / z


def one(_: Any) -> Any:
    return mp.mpf(1)


def linear(z: Any) -> Any:
    return abs(z) + TINY


def quadratic(z: Any) -> Any:
    return z * z + TINY


FITS = [
    Fit(
        "EXP",
        "(exp r - 1 - r) / r², |r| <= ln 2 / 2, relative to exp r",
        lambda r: (mp.exp(r) - 1 - r) / r**2,
        mp.mpf("0.5"),
        lambda r: r * r / mp.exp(r) + TINY,
        -HALF_LN2,
        HALF_LN2,
        (4, 9),
    ),
    Fit(
        "EXPM1",
        "(exp r - 1 - r) / r², |r| <= ln 2 / 2, relative to expm1 r",
        lambda r: (mp.exp(r) - 1 - r) / r**2,
        mp.mpf("0.5"),
        lambda r: abs(r * r / mp.expm1(r)) + TINY if r else TINY,
        -HALF_LN2,
        HALF_LN2,
        (5, 10),
    ),
    Fit(
        "LOG_F32",
        "(log(1 + f) - f + f²/2) / f³, sqrt(1/2) <= 1 + f <= sqrt 2, relative to log(1 + f)",
        lambda f: (mp.log(1 + f) - f + f * f / 2) / f**3,
        mp.mpf(1) / 3,
        lambda f: abs(f**3 / mp.log(1 + f)) + TINY if f else TINY,
        1 / ROOT2 - 1,
        ROOT2 - 1,
        (7,),
    ),
    Fit(
        "LOG_F64",
        "(2 atanh s - 2 s) / s³ in z = s², s = f / (2 + f) for the f above",
        lambda z: (atanh_quotient(z) - 2) / z,
        mp.mpf(2) / 3,
        linear,
        mp.mpf(0),
        ATANH_TOP,
        (6,),
    ),
    Fit(
        "POWER_LOG",
        "((atanh s) / s - 1 - 1/3 z) / z² in z = s²",
        lambda z: ((atanh_quotient(z) / 2 - 1) / z - mp.mpf(1) / 3) / z,
        mp.mpf(1) / 5,
        quadratic,
        mp.mpf(0),
        ATANH_TOP,
        (7,),
    ),
    Fit(
        "LOG1P_QUOTIENT",
        "((2 atanh s) / s - 2) / z in z = s², s <= 1/3",
        lambda z: (atanh_quotient(z) - 2) / z,
        mp.mpf(2) / 3,
        one,
        mp.mpf(0),
        mp.mpf(1) / 9,
        (6, 10),
    ),
    Fit(
        "POWER_LOG2_F32",
        "log2(1 + f) / f, sqrt(1/2) <= 1 + f <= sqrt 2",
        lambda f: mp.log(1 + f) / f / LN2,
        1 / LN2,
        lambda f: f * LN2 / mp.log(1 + f) if f else LN2,
        1 / ROOT2 - 1,
        ROOT2 - 1,
        (11,),
    ),
    Fit(
        "POWER_EXP2_F32",
        "2**r, |r| <= 1/2",
        lambda r: mp.mpf(2) ** r,
        mp.mpf(1),
        one,
        mp.mpf("-0.502"),
        mp.mpf("0.502"),
        (6,),
    ),
    Fit(
        "SIN",
        "(sin(r) / r - 1) / z in z = r², |r| <= pi/4",
        odd(mp.sin),
        -mp.mpf(1) / 6,
        linear,
        mp.mpf(0),
        EIGHTH_TURN,
        (3, 6),
    ),
    Fit(
        "COS",
        "(cos r - 1 + z/2) / z² in z = r², |r| <= pi/4",
        lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2,
        mp.mpf(1) / 24,
        quadratic,
        mp.mpf(0),
        EIGHTH_TURN,
        (2, 6),
    ),
    Fit(
        "TAN_F32",
        "(tan(r) / r - 1) / z in z = r², |r| <= pi/4 and a little, relative to tan r",
        odd(mp.tan),
        mp.mpf(1) / 3,
        lambda z: (z * mp.sqrt(z) / mp.tan(mp.sqrt(z)) if z else mp.mpf(0)) + TINY,
        mp.mpf(0),
        mp.mpf("0.7915") ** 2,
        (6,),
    ),
    Fit(
        "SINPI_F32",
        "sin(pi r) / r in z = r², |r| <= 1/2",
        lambda z: mp.sinpi(mp.sqrt(z)) / mp.sqrt(z),
        mp.pi,
        lambda z: mp.sqrt(z) / mp.sinpi(mp.sqrt(z)) if z else 1 / mp.pi,
        mp.mpf(0),
        mp.mpf("0.2505"),
        (5,),
    ),
    Fit(
        "ATAN",
        "(atan(t) / t - 1) / z in z = t², |t| <= sqrt 2 - 1",
        odd(mp.atan),
        -mp.mpf(1) / 3,
        linear,
        mp.mpf(0),
        (ROOT2 - 1) ** 2 * mp.mpf("1.002"),
        (10,),
    ),
    Fit(
        "ATAN_F32",
        "(atan(t) / t - 1) / z in z = t², |t| <= 1",
        odd(mp.atan),
        -mp.mpf(1) / 3,
        linear,
        mp.mpf(0),
        mp.mpf("1.002"),
        (8,),
    ),
    Fit(
        "ASIN_F32",
        "(asin(t) / t - 1) / z in z = t², |t| <= 0.6",
        odd(mp.asin),
        mp.mpf(1) / 6,
        linear,
        mp.mpf(0),
        mp.mpf("0.3605"),
        (5,),
    ),
    Fit(
        "ASIN",
        "(asin(t) / t - 1) / z in z = t², |t| <= 1/2",
        odd(mp.asin),
        mp.mpf(1) / 6,
        linear,
        mp.mpf(0),
        mp.mpf("0.2505"),
        (11,),
    ),
    Fit(
        "ERF_SMALL",
        "erf(x) / x - 1 in z = x², |x| <= 1/2",
        lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1,
        2 / mp.sqrt(mp.pi) - 1,
        lambda z: mp.sqrt(z) / mp.erf(mp.sqrt(z)) if z else mp.sqrt(mp.pi) / 2,
        mp.mpf(0),
        mp.mpf("0.25"),
        (9,),
    ),
    Fit(
        "ERF_F32",
        "log(erfc(x)) / x + 1, 0 <= x <= 4, relative to erf",
        log_of_complement,
        0,
        weight_of_log,
        mp.mpf(0),
        mp.mpf(4),
        (8,),
    ),
    Fit(
        "ERFC",
        "(1 + 2x) exp(x²) erfc(x) in (x - 4) / (x + 4), 0.49 <= x <= 28",
        scaled_erfc,
        0,
        lambda t: 1 / scaled_erfc(t),
        mp.mpf("-3.51") / mp.mpf("4.49"),
        mp.mpf("0.75"),
        (20,),
    ),
    Fit(
        "ERFC_F32",
        "exp(x²) erfc(x) in (x - 3) / (x + 3), 0 <= x <= 10.3",
        scaled_erfc_f32,
        0,
        lambda t: 1 / scaled_erfc_f32(t),
        mp.mpf(-1),
        mp.mpf("7.3") / mp.mpf("13.3"),
        (11,),
    ),
    Fit(
        "ERFCX",
        "(1 + 2x) exp(x²) erfc(x) in (x - 4) / (x + 4), x >= 0",
        scaled_erfcx,
        0,
        lambda t: 1 / scaled_erfcx(t),
        mp.mpf(-1),
        mp.mpf(1),
        (25,),
    ),
    Fit(
        "ERFINV_CENTRE",
        "erfinv(x) / x in x², |x| <= 1/2",
        lambda z: mp.erfinv(mp.sqrt(z)) / mp.sqrt(z),
        mp.sqrt(mp.pi) / 2,
        one,
        mp.mpf(0),
        mp.mpf("0.2505"),
        (13,),
    ),
    Fit(
        "ERFINV_NEAR",
        "the inverse of erfc at exp(-s²) in s - 1.45, 0.832 <= s <= 2.1",
        lambda t: inverse_erfc(t + mp.mpf("1.45")),
        0,
        lambda t: 1 / inverse_erfc(t + mp.mpf("1.45")),
        mp.mpf("-0.618"),
        mp.mpf("0.65"),
        (20,),
    ),
    Fit(
        "ERFINV_FAR",
        "the inverse of erfc at exp(-s²), by s, in (s - 4) / (s + 4), 2.1 <= s <= 27.4",
        inverse_erfc_quotient,
        0,
        lambda t: 1 / inverse_erfc_quotient(t),
        mp.mpf("-1.9") / mp.mpf("6.1"),
        mp.mpf("23.4") / mp.mpf("31.4"),
        (24,),
    ),
    Fit(
        "ERFINV_MOST",
        "erfinv(x) / x in w - 3.125, w = -log(1 - x²) <= 6.25",
        lambda t: inverse_erf_quotient(t + mp.mpf("3.125")),
        0,
        lambda t: 1 / inverse_erf_quotient(t + mp.mpf("3.125")),
        mp.mpf("-3.125"),
        mp.mpf("3.127"),
        (22,),
    ),
    Fit(
        "ERFINV_CENTRE_F32",
        "erfinv(x) / x in w - 2.5, w = -log(1 - x²) <= 5",
        lambda t: inverse_erf_quotient(t + mp.mpf("2.5")),
        0,
        lambda t: 1 / inverse_erf_quotient(t + mp.mpf("2.5")),
        mp.mpf("-2.5"),
        mp.mpf("2.501"),
        (9,),
    ),
    Fit(
        "ERFINV_TAIL_F32",
        "erfinv(x) / x in sqrt(w) - 3, 5 <= w <= 16.8",
        lambda t: inverse_erf_quotient((t + 3) ** 2),
        0,
        lambda t: 1 / inverse_erf_quotient((t + 3) ** 2),
        mp.sqrt(5) - mp.mpf("3.001"),
        mp.mpf("1.1"),
        (9,),
    ),
    Fit(
        "GAMMA",
        "gamma(2 + f), |f| <= 1/2",
        lambda f: mp.gamma(2 + f),
        0,
        one,
        mp.mpf("-0.5"),
        mp.mpf("0.5"),
        (19,),
    ),
    Fit(
        "LOG_GAMMA",
        "log gamma(2 + f) / (f (1 + f)), |f| <= 1/2",
        lambda f: mp.loggamma(2 + f) / (f * (1 + f)),
        mp.digamma(2),
        one,
        mp.mpf("-0.5"),
        mp.mpf("0.5"),
        (9, 18),
    ),
    Fit(
        "STIRLING",
        "x (log gamma x - (x - 1/2) log x + x - log(2 pi) / 2) in 1/x², x >= 8.5",
        stirling_rest,
        mp.mpf(1) / 12,
        lambda z: mp.sqrt(z) + TINY,
        mp.mpf(0),
        1 / mp.mpf("8.4") ** 2,
        (1, 5),
    ),
    Fit(
        "DIGAMMA",
        "digamma(1.5 + f) / (1.5 + f - its root), |f| <= 1/2",
        lambda f: mp.digamma(mp.mpf("1.5") + f) / (mp.mpf("1.5") + f - DIGAMMA_ROOT),
        0,
        one,
        mp.mpf("-0.5"),
        mp.mpf("0.5"),
        (22,),
    ),
    Fit(
        "DIGAMMA_FAR",
        "x² (log x - 1 / 2x - digamma x) in 1/x², x >= 8",
        digamma_rest,
        mp.mpf(1) / 12,
        linear,
        mp.mpf(0),
        1 / mp.mpf("7.9") ** 2,
        (6,),
    ),
]

#: function, its dtype, steps in 1, where it ends, and the degrees for d, d³ …
STEPS = (
    ("ERF", "F64", 64, "6", (5, 3, 2, 0)),
    ("ERFC", "F32", 32, "10.25", (5, 2)),
    ("ERFC", "F64", 64, "27.4", (11, 8, 5, 2)),
)
for function, dtype, steps, end, degrees in STEPS:
    step = mp.mpf(1) / steps
    for k, degree in zip((1, 3, 5, 7), degrees):
        FITS.append(
            Fit(
                f"{function}_{dtype}_{k}",
                f"of d{'¹³⁵⁷'[k // 2]} in the difference of {function.lower()} at r and r + d, |d| <= 1/{2 * steps}, "
                f"in 2 r d, r <= {end}",
                part_of_step(k),
                0,
                weight_in_step(k, step, function == "ERFC"),
                -mp.mpf(end) * step,
                mp.mpf(end) * step,
                (degree,),
            )
        )

HEADER = '''"""Coefficients of the polynomials in ``vector_math``, constant term first; from ``fit_polynomials.py``.

Minimax fits (Remez' algorithm in 50 digits, weighted so that the error of the function itself is levelled), rounded to
float64. Each entry says what is fitted, over what, and the greatest weighted error.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from knetc.runtime.base.dtypes import f32, f64

Coefficients = tuple[float, ...]
ByDtype = Mapping[np.dtype, Coefficients]
'''


def fitted(fit: Fit, degree: int) -> tuple[str, str]:
    """The coefficients as text, and the error."""

    def target(x: Any) -> Any:
        return fit.limit if fit.limit and abs(x) < mp.mpf("1e-15") else fit.target(x)

    coefficients, error = remez(target, fit.weight, degree, fit.low, fit.high)
    return "".join(f"{c!r},\n" for c in coefficients), f"{error:.1e}"


def main() -> None:
    print(HEADER, end="")
    for fit in FITS:
        results = [fitted(fit, degree) for degree in fit.degrees]
        errors = " and ".join(error for _, error in results)
        print(f"\n#: {fit.doc}; {errors}")
        if len(results) == 1:
            print(f"{fit.name}: Coefficients = (\n{indent(results[0][0], ' ' * 4)})")
        else:
            entries = "".join(
                f"    {short}: (\n{indent(text, ' ' * 8)}    ),\n" for short, (text, _) in zip(("f32", "f64"), results)
            )
            print(f"{fit.name}: ByDtype = {{\n{entries}}}")


if __name__ == "__main__":
    main()
