"""The command line: `python -m benchmarks.gpu`; README.md says what is measured and how to run it.

ADR 0034 and ADR 0146 say why. With --wheels only the standard library may be there: all else is imported late.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu import given
from benchmarks.gpu.scenes import SUITE, Scene


def main() -> int:
    """Measure both sides, print the tables, write the JSON."""
    parser = _parser()
    options = parser.parse_args()
    if options.warm_up < 1:
        parser.error("--warm-up: at least 1, as the first step compiles")
    if options.wheels:
        # Beside the benchmark's directory, which is emptied each time.
        packages = options.directory.resolve().with_name(f"{options.directory.name}-packages")
        given.run(options.wheels.resolve(), packages, _without_wheels(sys.argv[1:]))
    name = device()
    if name == "CPU" and not options.dry:
        sys.exit("no GPU was found (nvidia-smi names none); --dry runs everything with a tiny model on the CPU")
    from benchmarks.gpu import comparison  # noqa: PLC0415

    one = Scene(options.method, packing=options.packing, liger=options.liger)
    comparison.compare(options, SUITE if options.suite else (one,), name)
    return 0


def device() -> str:
    """Name of the first GPU; "CPU" when there is none."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "CPU"
    return done.stdout.splitlines()[0].strip()


def _without_wheels(arguments: list[str]) -> list[str]:
    left, taken = [], False
    for argument in arguments:
        if taken or argument.startswith("--wheels="):
            taken = False
        elif argument == "--wheels":
            taken = True
        else:
            left.append(argument)
    return left


def _parser() -> argparse.ArgumentParser:
    on_off = argparse.BooleanOptionalAction
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--wheels", type=Path, metavar="FOLDER", help="torch is given, all else comes from here, offline"
    )
    parser.add_argument("--suite", action="store_true", help="LoRA, QLoRA and full, and LoRA without packing or Liger")
    parser.add_argument("--size", choices=["0.6b", "1.7b"], default="1.7b")
    parser.add_argument("--method", choices=["lora", "qlora", "full"], default="lora")
    parser.add_argument("--packing", action=on_off, default=True)
    parser.add_argument("--liger", action=on_off, default=True, help="Liger kernels, where they run")
    parser.add_argument("--rank", type=int, default=16, help="of the LoRA adapter")
    parser.add_argument("--length", type=int, default=4096, help="tokens of a packed sequence")
    parser.add_argument("--batch", type=int, default=4, help="sequences a step")
    parser.add_argument("--accumulation", type=int, default=1, help="batches before a weight update")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--warm-up", type=int, default=10, help="steps that do not count, at least 1")
    parser.add_argument("--rounds", type=int, default=2, help="both sides in turn; the best of each counts")
    parser.add_argument("--directory", type=Path, default=Path("/tmp/qwensft-benchmark"), help="emptied first")  # noqa: S108
    parser.add_argument("--output", type=Path, help="file for the figures as JSON")
    parser.add_argument("--dry", action="store_true", help="a tiny model and short steps, also without a GPU")
    return parser


if __name__ == "__main__":
    sys.exit(main())
