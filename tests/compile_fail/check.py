#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""A compile-fail test: the file must be refused, with every text of its EXPECT lines.

A line `// EXPECT: regex` names a text that the compiler must print; `// EXPECT(gcc): regex` and
`// EXPECT(clang): regex` are for one of them. With PHASEBIT_FAIL_FIXED defined the same file must
compile, which shows that nothing else is wrong with it.
"""
import argparse
import re
import subprocess
import sys
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("--compiler", default="g++")
    args = parser.parse_args()

    def compile_it(*more):
        command = [args.compiler, "-std=c++20", "-fsyntax-only", f"-I{args.root}/include", *more, str(args.file)]
        done = subprocess.run(command, text=True, errors="replace", stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode == 0, done.stdout

    kind = "clang" if "clang" in compile_version(args.compiler) else "gcc"
    wanted = [regex.strip() for only, regex in
              re.findall(r"^// EXPECT(?:\((gcc|clang)\))?:(.*)$", args.file.read_text(), re.M)
              if only in ("", kind)]
    if not wanted:
        print(f"{args.file} has no EXPECT line for {kind}")
        return 1
    compiles, output = compile_it()
    if compiles:
        print(f"{args.file} compiles, and must not")
        return 1
    for regex in wanted:
        if not re.search(regex, output):
            print(f"{args.file} is refused, but {kind} does not print: {regex}\n{output}")
            return 1
    compiles, output = compile_it("-DPHASEBIT_FAIL_FIXED")
    if not compiles:
        print(f"{args.file} fails for another reason: it does not compile when fixed\n{output}")
        return 1
    return 0


def compile_version(compiler):
    return subprocess.run([compiler, "--version"], text=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    sys.exit(main())
