#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Holds the table of orderings in docs/memory-order.md against the headers.

Usage: orderings.py ROOT [--list]

Each header that asks for an order has one row: | `file` | operations and how often | ... |. An ordering
that is added, removed or changed fails this until its row says so. --list prints what the headers have.
"""
import re
import sys
from pathlib import Path

KINDS = [
    (r"Order::(load|after_load|store|full)\b", r"\1"),
    (r"(?:load_tail)<Order>", "load"),
    (r"(?:publish_tail)<Order>", "store"),
    (r"thread_order::(load_relaxed|load|after_load|store_relaxed|store|full)\b", r"thread \1"),
    (r"device_order::(load|after_load|store|full)\b", r"device \1"),
    (r"memory_order_([a-z_]+)", r"\1"),
    (r"memory_order::([a-z_]+)", r"\1"),
    (r"__ATOMIC_([A-Z_]+)", r"\1"),
    (r"\b(before_mmio_write|after_mmio_read|drain_write_combining)\(\)", r"\1"),
    (r"\b((?:load|store|exchange)_entry(?:_relaxed)?)\(", r"\1"),
    (r"\basm volatile", "asm"),
]
SECTION = "## Every header that asks for an order"


def without_comments(text):
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)


def operations(text):
    found = {}
    for pattern, name in KINDS:
        for match in re.finditer(pattern, text):
            what = match.expand(name)
            found[what] = found.get(what, 0) + 1
    return ", ".join(f"{what} {found[what]}" for what in sorted(found))


def in_headers(root):
    include = root / "include" / "phasebit"
    table = {}
    for header in sorted(include.rglob("*.hpp")):
        name = header.relative_to(include).as_posix()
        if name.startswith("testing/explorer/"):
            continue
        what = operations(without_comments(header.read_text()))
        if what:
            table[name] = what
    return table


def in_document(root):
    text = (root / "docs" / "memory-order.md").read_text()
    if SECTION not in text:
        sys.exit(f"docs/memory-order.md has no section '{SECTION[3:]}'")
    section = text.split(SECTION, 1)[1].split("\n## ", 1)[0]
    table = {}
    for row in re.findall(r"^\| `([^`]+\.hpp)` \|([^|]*)\|([^|]*)\|([^|]*)\|$", section, re.M):
        name, what, guarantee, shown = (cell.strip() for cell in row)
        if not guarantee or not shown:
            sys.exit(f"docs/memory-order.md: {name} has an empty cell")
        if "not explored" in shown:
            sys.exit(f"docs/memory-order.md: {name} gives no reason why it is not explored")
        table[name] = what
    return table


def main():
    root = Path(sys.argv[1])
    real = in_headers(root)
    if "--list" in sys.argv:
        for name, what in real.items():
            print(f"| `{name}` | {what} |")
        return
    said = in_document(root)
    wrong = [f"{name}: has {real.get(name, 'nothing')}; the table says {said.get(name, 'nothing')}"
             for name in sorted(real.keys() | said.keys()) if real.get(name) != said.get(name)]
    if wrong:
        sys.exit("docs/memory-order.md, 'Every header that asks for an order':\n" + "\n".join(wrong))
    print(f"{len(real)} headers ask for an order, and each has its row")


main()
