#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Holds the instructions of a function against what its file says they are.

A line `// EXPECT function x86_64 aarch64: movl .*; ret` names the architectures and one regular
expression per instruction, in order, nothing between them. Usage:
check.py FILE --compiler "riscv64-linux-gnu-g++" --architecture riscv64
"""
import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

FLAGS = ["-std=c++20", "-O2", "-fomit-frame-pointer", "-fno-asynchronous-unwind-tables", "-ffreestanding",
         "-fno-exceptions", "-fno-rtti", "-S", "-o", "-"]
SKIPPED = 77


def instructions(assembly, function):
    """The instructions of a function, white space made single blanks; None if it is not there."""
    body = re.search(rf"^{function}:[^\n]*\n(.*?)^\s*\.size\s+{function}\b", assembly, re.M | re.S)
    if not body:
        return None
    lines = []
    for line in body.group(1).splitlines():
        for part in re.split(r"//|\s@|@ |#(?![-\d])", line)[0].split(";"):
            part = " ".join(part.split())
            if part and not part.startswith(".") and not part.endswith(":"):
                lines.append(part)
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--architecture", required=True)
    args = parser.parse_args()

    command = shlex.split(args.compiler)
    if not shutil.which(command[0]):
        print(f"skipped: {command[0]} is not installed")
        return SKIPPED
    done = subprocess.run(command + FLAGS + [f"-I{args.root}/include", str(args.file)], text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        print(done.stderr)
        return 1

    wrong = tried = 0
    for function, architectures, expected in re.findall(
            r"^// EXPECT (\w+)((?: [\w-]+)+): (.*)$", args.file.read_text(), re.M):
        if args.architecture not in architectures.split():
            continue
        tried += 1
        wanted = [part.strip() for part in expected.split(";")]
        got = instructions(done.stdout, function)
        if got is None or len(got) != len(wanted) or not all(map(re.fullmatch, wanted, got)):
            wrong += 1
            print(f"{function} on {args.architecture}, {args.compiler}:\n  wanted {wanted}\n  got    {got}")
    if not tried:
        print(f"{args.file} expects nothing of {args.architecture}")
    return 1 if wrong or not tried else 0


if __name__ == "__main__":
    sys.exit(main())
