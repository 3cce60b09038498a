"""How exact public functions are: the greatest errors found, in ulp, of values and of derivatives, against mpmath.

Run: ``python benchmarks/accuracy.py [count] [name …]``, count being the samples in each interval (200); with
``KNETC_CPU_LEVEL=avx2`` (or ``generic``) for older processors. A ``!`` is behind what is beyond the function's bound.
"""

import sys
from pathlib import Path

import numpy as np

import knetc as kn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from exact_functions import ALL, DERIVATIVES, UNARY, derivative, worst
from vector_math_cases import FLOATS, errors


def row(name: str, found: list[tuple[float, str]], bounds: tuple[float, float]) -> None:
    cells = [f"{error:.2f}{'!' if error > bound else ''}" for (error, _), bound in zip(found, bounds, strict=True)]
    print(f"| `{name}` | {' | '.join(cells)} | {' and '.join(place for _, place in found)} |", flush=True)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    names = sys.argv[2:] or list(ALL)
    print("| function | float32 | float64 | at |\n|---|---|---|---|")
    for name in names:
        errors_found = [worst(name, dtype, count) for dtype in FLOATS]
        found = [(error, ", ".join(f"{v:.17g}" for v in place)) for error, place in errors_found]
        row(name, found, ALL[name].most)
    print("\n| derivative of | float32 | float64 | at |\n|---|---|---|---|")
    for name in names:
        if name in DERIVATIVES:
            found = []
            for dtype in FLOATS:
                x, exact = derivative(name, dtype)
                slopes = np.asarray(kn.grad(lambda x, function=UNARY[name].function: kn.sum(function(x)))(kn.array(x)))
                wrong = errors(slopes, exact)
                found.append((float(wrong.max()), f"{x[wrong.argmax()]:.9g}"))
            row(name, found, DERIVATIVES[name])


if __name__ == "__main__":
    main()
