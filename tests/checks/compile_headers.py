#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Compiles each header alone, as the first include of a translation unit.

Usage: compile_headers.py --compiler "g++ -m64" [--freestanding] [--alone-from LAYER]
                          [--without-hosted] [--work DIR]

Headers of layers below --alone-from are compiled one translation unit per folder instead, for compilers that
only have to agree with one that saw each header alone. With ccache on the path, a header that has
not changed since the last run costs nothing.
"""
import argparse
import shlex
import shutil
import sys
from pathlib import Path

import tree

FLAGS = ["-std=c++20", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--freestanding", action="store_true", help="freestanding components, with no operating system")
    parser.add_argument("--alone-from", type=int, default=0, help="lower layers: one translation unit per folder")
    parser.add_argument("--without-hosted", action="store_true", help="fmt and Boost are not there")
    parser.add_argument("--work", type=Path, default=Path("build/headers"))
    args = parser.parse_args()

    compiler = shlex.split(args.compiler)
    if not shutil.which(compiler[0]):
        print(f"skipped: {compiler[0]} is not installed")
        return tree.SKIPPED
    flags = list(FLAGS)
    if Path(compiler[0]).name.startswith("g++"):
        flags.append("-Wuseless-cast")  # of this machine's g++ only: what is useless depends on the machine
    if shutil.which("ccache"):
        compiler.insert(0, "ccache")

    if args.freestanding:
        flags += ["-ffreestanding", "-fno-exceptions", "-fno-rtti"]
        names = tree.freestanding(args.root)
    else:
        names = [tree.include_name(args.root, h) for h in tree.headers(args.root)]
        if args.without_hosted:
            names = [n for n in names if not n.startswith("phasebit/hosted")]

    table = tree.components(args.root)
    units = {}
    for name in names:
        component = tree.component_of(table, name)
        together = component and component.layer < args.alone_from
        key = f"{Path(name).parent}/together" if together else name.removesuffix(".hpp")
        units.setdefault(key, []).append(name)

    commands = []
    args.work.mkdir(parents=True, exist_ok=True)
    for key, included in units.items():
        unit = args.work / (key.replace("/", ".") + ".cpp")
        text = "".join(f"#include <{name}>\n" for name in included * 2)
        if not unit.exists() or unit.read_text() != text:
            unit.write_text(text)
        commands.append(compiler + flags + [f"-I{args.root}/include", "-c", str(unit), "-o",
                                            str(unit.with_suffix(".o"))])

    failed = 0
    for (key, included), (_, status, output) in zip(units.items(), tree.run_all(commands)):
        if status:
            failed += 1
            print(f"{' with '.join(included)} does not compile alone with {args.compiler}:\n{output}")
    print(f"{len(units) - failed} of {len(units)} translation units ({len(names)} headers) compile with {args.compiler}")
    return 1 if failed or not names else 0


if __name__ == "__main__":
    sys.exit(main())
