#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Compiles every use_*.cpp without an operating system, and holds what is left undefined against
{memcpy, memmove, memset, memcmp}: the four that any freestanding compiler may call by itself.

Usage: symbols.py --compiler "arm-none-eabi-g++ -mthumb" --optimize "-O2 -Os" [--work DIR]
"""
import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checks"))
import tree  # noqa: E402

ALLOWED = {"memcpy", "memmove", "memset", "memcmp"}
FLAGS = ["-std=c++20", "-ffreestanding", "-fno-exceptions", "-fno-rtti", "-Wall", "-Wextra",
         "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]


def nm_for(compiler):
    """The nm that goes with a compiler: that of its target where it is a cross compiler."""
    if m := re.match(r"(.*-)g\+\+$", compiler):
        return m.group(1) + "nm"
    return "nm"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--optimize", default="-O2")
    parser.add_argument("--work", type=Path, default=Path("build/symbols"))
    args = parser.parse_args()

    compiler = shlex.split(args.compiler)
    nm = nm_for(compiler[0])
    if not shutil.which(compiler[0]) or not shutil.which(nm):
        print(f"skipped: {compiler[0]} is not installed")
        return tree.SKIPPED
    if shutil.which("ccache"):
        compiler.insert(0, "ccache")

    args.work.mkdir(parents=True, exist_ok=True)
    units = []
    for file in sorted(Path(args.root, "tests/freestanding").glob("use_*.cpp")):
        for level in shlex.split(args.optimize):
            units.append((file.name, level, str(args.work / f"{file.stem}{level}.o"),
                          compiler + FLAGS + [level, f"-I{args.root}/include", "-c", str(file), "-o",
                                              str(args.work / f"{file.stem}{level}.o")]))
    failed = 0
    for (name, level, out, _), (_, status, output) in zip(units, tree.run_all([u[3] for u in units])):
        if status:
            failed += 1
            print(f"{name} does not compile with {args.compiler} {level}:\n{output}")
            continue
        listing = subprocess.run([nm, "-u", out], text=True, stdout=subprocess.PIPE, check=True).stdout
        symbols = {line.split()[-1] for line in listing.splitlines() if line.strip()}
        if foreign := sorted(symbols - ALLOWED):
            failed += 1
            print(f"{name} with {args.compiler} {level} needs {', '.join(foreign)}")
    print(f"{len(units) - failed} of {len(units)} objects need nothing of an operating system")
    return 1 if failed or not units else 0


if __name__ == "__main__":
    sys.exit(main())
