"""The command ``knetc``: look inside, look after the cache, see what this machine has."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from knetc.compiler import report
from knetc.devices import cublaslt, found_devices
from knetc.dump import UsageError, dump
from knetc.runtime import cache
from knetc.runtime.base.config import config
from knetc.runtime.base.errors import KnetcError
from knetc.runtime.base.threads import thread_count
from knetc.runtime.cpu import host

_SIGPIPE_STATUS = 128 + 13
"""What a shell shows for a command that a closed pipe has ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 if something is wrong, 2 for a command that cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        status = int(options.run(options))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever reads has enough, as head has; at exit Python would write once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _SIGPIPE_STATUS
    except UsageError as error:
        print(f"knetc: {error}", file=sys.stderr)
        return 2
    except KnetcError as error:
        print(f"knetc: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="knetc", description="Look inside the compiler and after its cache.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    show = commands.add_parser("dump-ir", help="show what the compiler makes of a function")
    show.add_argument("target", help="file.py:function or package.module:function")
    show.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="VALUE",
        help="an argument: an array such as 'f32[100,784]', a number, or either with the argument's name: 'n=3'",
    )
    show.add_argument(
        "--stage",
        default="trace",
        help=f"one or several of {','.join(report.STAGES)}, or for a GPU of {','.join(report.GPU_STAGES)}; or all",
    )
    show.add_argument("--format", default="text", choices=tuple(report.FORMATS))
    show.add_argument("--device", default="cpu", help="cpu, or a GPU's architecture, such as cuda:sm_90")
    show.add_argument("--out", type=Path, metavar="FOLDER", help="write one file for each stage")
    show.set_defaults(run=_dump_ir)

    keep = commands.add_parser("cache", help="the cache of compiled programs")
    keep.add_argument("action", choices=("list", "verify", "clear", "path"))
    keep.set_defaults(run=_cache)

    doctor = commands.add_parser("doctor", help="say what was found on this machine")
    doctor.set_defaults(run=_doctor)
    return parser


def _dump_ir(options: argparse.Namespace) -> int:
    if options.device != "cpu" and not re.fullmatch(r"cuda:sm_\d+", options.device):
        raise UsageError(
            f"there is no code generator for device {options.device!r}; use --device cpu, or a GPU's architecture, "
            "such as cuda:sm_90 (the GPU need not be there)"
        )
    known = report.STAGES if options.device == "cpu" else report.GPU_STAGES
    stages = list(known) if options.stage == "all" else [s.strip() for s in options.stage.split(",")]
    for stage in stages:
        if stage not in known:
            raise UsageError(f"there is no stage {stage!r} for {options.device}; there are {', '.join(known)}, and all")
    found = dump(options.target, options.input, stages, options.format, options.device)
    if options.out is None:
        for stage, text in found.items():
            if len(found) > 1 and options.format == "text":
                print(f"# --- {stage}")
            print(text)
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    for stage, text in found.items():
        ending = report.ENDINGS.get(stage, "py") if options.format == "text" else ""
        file = options.out / f"{stage}.{ending or report.FORMATS[options.format]}"
        file.write_text(text)
        print(file)
    return 0


def _cache(options: argparse.Namespace) -> int:
    if options.action == "path":
        print(cache.path())
    elif options.action == "clear":
        print(f"removed {cache.clear()} entries")
    elif options.action == "verify":
        damaged = cache.verify()
        for entry in damaged:
            print(f"removed, damaged: {entry.path}")
        print(f"{len(cache.entries())} entries are good")
        return 1 if damaged else 0
    else:
        found = cache.entries()
        for entry in found:
            print(f"{entry.kind:8} {entry.key}  {report.size_text(entry.size_bytes):>10}")
        print(f"{len(found)} entries, {report.size_text(sum(entry.size_bytes for entry in found))}, in {cache.path()}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    flags = host.cpu_flags()
    wide = next((name for name in ("avx512f", "avx2", "asimd") if name in flags), "none that is known")
    lines = {
        "knetc": _version("knetc"),
        "Python": sys.version.split()[0],
        "numpy": _version("numpy"),
        "processor": f"{host.architecture()}, widest vectors: {wide}",
        "target": host.target_key(config.cpu_level),
        "threads": f"{thread_count()} (KNETC_THREADS changes it)",
        "llvmlite": _version("llvmlite", "needed to compile; programs in the cache run without it"),
        "networkx": _version("networkx", "needed to compile; programs in the cache run without it"),
        "cache": f"{cache.path()}, {len(cache.entries())} entries" + ("" if config.cache else " (switched off)"),
        **found_devices(),
        "triton": _version("triton", "needed to compile for GPUs: pip install 'knetc[cuda13]'"),
        "cuBLASLt": cublaslt(),
    }
    for name, text in lines.items():
        print(f"{name:12} {text}")
    return 0 if all(importlib.util.find_spec(name) for name in ("llvmlite", "networkx")) else 1


def _version(name: str, otherwise: str = "") -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"not found: {otherwise}"
