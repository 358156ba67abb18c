#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Checks the documents against the tree.

check.py snippets  compiles every fenced block marked "cpp"
check.py walks     the walks of docs/architecture.md are as short as they promise
check.py links     every relative link, and every path in backquotes that looks like one, exists

A block marked "```cpp" is compiled as the body of a function that returns phasebit::result<>; one marked
"```cpp global" stands at namespace scope, before the bodies that follow it. Both come after <page>.hpp beside this
script, in one translation unit of the page. A block that includes headers is a translation unit of its own.
"""
import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


def pages():
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page):
    """(line, marks, text) of every fenced C++ block."""
    lines = page.read_text().splitlines()
    start = None
    for number, line in enumerate(lines, 1):
        if start is None and (m := re.match(r"```cpp\b *(.*)$", line)):
            start, marks = number, m.group(1).split()
        elif start is not None and line == "```":
            yield start, marks, "\n".join(lines[start : number - 1])
            start = None


def snippets(args):
    args.work.mkdir(parents=True, exist_ok=True)
    failed = total = 0
    for page in pages():
        found = list(blocks(page))
        if not found:
            continue
        context = HERE / f"{page.stem}.hpp"
        shared = f'#include "{context}"\n' if context.exists() else "#include <phasebit/phasebit.hpp>\n"
        units = {page.stem: shared}
        for line, marks, code in found:
            total += 1
            place = f'#line {line + 1} "{page}"\n{code}\n'
            if re.search(r"^#include", code, re.M):
                units[f"{page.stem}_{line}"] = place
            elif "global" in marks:
                units[page.stem] += place
            else:
                units[page.stem] += f"phasebit::result<> snippet_{line}() {{\n{place}  return {{}};\n}}\n"
        for name, text in units.items():
            if text == shared:
                continue
            unit = args.work / f"{name}.cpp"
            unit.write_text(text)
            done = subprocess.run([args.compiler, "-std=c++20", "-Wall", "-Wextra", "-Wno-unused",
                                   "-Wno-unused-result", "-Wno-overflow", f"-I{ROOT}/include", "-fsyntax-only", str(unit)],
                                  text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  stdin=subprocess.DEVNULL)
            if done.returncode:
                failed += 1
                print(f"a snippet of {page.relative_to(ROOT)} does not compile:\n{done.stdout}")
    print(f"{total} snippets, {failed} units with errors")
    return 1 if failed or not total else 0


def links(_):
    problems = 0
    for page in pages():
        text = page.read_text()
        named = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
        for target in named:
            if not (page.parent / target).exists():
                problems += 1
                print(f"{page.relative_to(ROOT)}: {target} does not exist")
        for path in re.findall(r"`((?:include|tests|cmake|docs|bench|examples|phasebit)/[\w./-]+\.\w+)`", text):
            place = ROOT / ("include/" + path if path.startswith("phasebit/") else path)
            if not place.exists():
                problems += 1
                print(f"{page.relative_to(ROOT)}: {path} does not exist")
    print(f"{problems} links and paths are wrong")
    return 1 if problems else 0


def walks(_):
    """Each "walk" of docs/architecture.md names at most as many files as it promises."""
    problems = counted = 0
    text = (ROOT / "docs/architecture.md").read_text()
    for title, body in re.findall(r"^## Walk: (.*?)\n(.*?)(?=^## |\Z)", text, re.M | re.S):
        most = re.search(r"<!-- walk: at most (\d+) files -->", body)
        files = set(re.findall(r"`(phasebit/[\w./-]+\.hpp)`", body))
        counted += 1
        if not most or not files or len(files) > int(most.group(1)):
            problems += 1
            print(f"the walk '{title}' names {len(files)} files, promised: {most.group(1) if most else 'nothing'}")
    print(f"{counted} walks, {problems} too long")
    return 1 if problems or not counted else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("check", choices=("snippets", "links", "walks"))
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--work", type=Path, default=ROOT / "build/docs")
    args = parser.parse_args()
    return {"snippets": snippets, "links": links, "walks": walks}[args.check](args)


if __name__ == "__main__":
    sys.exit(main())
