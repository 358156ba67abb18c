#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Holds each freestanding header to its budget of preprocessed lines (blank lines not counted).

The standard library's headers count: they are most of what a user's compiler has to read. The
budgets are for libstdc++ 12, so the check needs g++-12.
"""
import argparse
import shutil
import sys
from pathlib import Path

import tree

BUDGETS = {0: 20000, 5: 40000}  # per layer; whole systems have both sides of a protocol
BUDGET = 36000  # of every other freestanding header


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("--list", action="store_true", help="print every header's size")
    args = parser.parse_args()
    if not shutil.which("g++-12"):
        print("skipped: g++-12 is not installed")
        return tree.SKIPPED

    table = tree.components(args.root)
    budgets = {}
    for header in tree.headers(args.root):
        name = tree.include_name(args.root, header)
        component = tree.component_of(table, name)
        if component and component.freestanding:
            budgets[name] = BUDGETS.get(component.layer, BUDGET)

    command = ["g++-12", "-std=c++20", "-E", "-P", f"-I{args.root}/include", "-x", "c++"]
    results = tree.run_all([command + [f"{args.root}/include/{name}"] for name in budgets])
    problems = 0
    for (name, budget), (_, status, output) in zip(budgets.items(), results):
        lines = sum(1 for line in output.splitlines() if line.strip())
        if status or lines > budget:
            problems += 1
            print(f"{name}: {output if status else f'{lines} preprocessed lines, budget {budget}'}")
        elif args.list:
            print(f"{name}: {lines}")
    print(f"{len(budgets) - problems} of {len(budgets)} headers are within their budget")
    return 1 if problems or not budgets else 0


if __name__ == "__main__":
    sys.exit(main())
