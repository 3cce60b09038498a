"""How exact the elementary functions are: greatest error in ulp by function, dtype and instruction-set level.

Run: ``python benchmarks/accuracy.py [count] [name …]``, count being the samples in each interval (2000).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from scalar_kernels import LEVELS
from vector_math_cases import COMPOSITES, FLOATS, REFERENCES, worst, worst_composite


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print(f"{'function':12}{'dtype':10}" + "".join(f"{level:>10}" for level in LEVELS) + "   at (native)")
    for name in sys.argv[2:] or (*REFERENCES, *COMPOSITES):
        for dtype in FLOATS:
            if name in COMPOSITES:
                found = [worst_composite(name, dtype, count)]
            else:
                found = [worst(name, dtype, level, count) for level in LEVELS]
            row = "".join(f"{error:10.2f}" for error, _ in found).ljust(10 * len(LEVELS))
            print(f"{name:12}{dtype.name:10}{row}   {', '.join(f'{v:.17g}' for v in found[0][1])}", flush=True)


if __name__ == "__main__":
    main()
