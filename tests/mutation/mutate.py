#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Puts mistakes into a copy of the headers, one at a time, and reports which tests notice.

All mistakes of a run are compiled into one build and selected at run time, so that many cost little more than
one. The lists beside this script (*.json) name them:

  {"file": "phasebit/ring/event_index.hpp",     below include/
   "from": "new_index - event_index - 1",       text that stands there exactly once
   "to": "new_index - event_index",             the mistake
   "kind": "expression",                        or "statement": from and to are whole statements
   "tests": ["ring"],                           folders or files of tests/ one of which should notice
   "equivalent": "why"}                         optional: it changes no behaviour

Places of one file do not overlap, whichever lists name them. Tests run until their first failure, and at most a
few times as long as without a mistake.

Usage: mutate.py [--list NAME]... [--only SUBSTRING]... [--sample N] [--jobs N] [--compiler g++] [--work DIR]
Ends with status 1 if a mistake that is not equivalent stays unnoticed.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent

SELECTOR = """\
// The mistake that this run selects; 0 selects none.
namespace phasebit_mutation {
extern const int selected;
}
"""
DEFINITION = """\
#include <cstdlib>
namespace phasebit_mutation {
extern const int selected;
const int selected = std::getenv("PHASEBIT_MUTATION") ? std::atoi(std::getenv("PHASEBIT_MUTATION")) : 0;
}
"""


def number_of(m):
    """Depends on the mistake alone, so that others that come and go leave its file's text as it was."""
    return zlib.crc32("\n".join((m["file"], m["from"], m["to"])).encode()) & 0x3fffffff | 1


def mutated(m):
    # Constant evaluation keeps the original: static_assert must still compile.
    chosen = f"(!__builtin_is_constant_evaluated() && ::phasebit_mutation::selected == {number_of(m)})"
    if m["kind"] == "expression":
        return f"({chosen} ? ({m['to']}) : ({m['from']}))"
    return f"if {chosen} {{ {m['to']} }} else {{ {m['from']} }}"


def mutated_file(text, name, mutations, complaints):
    """The text with all its mistakes in it."""
    places = []
    for m in mutations:
        if (count := text.count(m["from"])) != 1:
            complaints.append(f"{name}: {count} places read: {m['from']}")
        elif m["kind"] not in ("expression", "statement"):
            complaints.append(f"{name}: there is no kind {m['kind']}")
        else:
            places.append((text.index(m["from"]), m))
    out, at = "", 0
    for begin, m in sorted(places, key=lambda p: p[0]):
        if begin < at:
            complaints.append(f"{name}: overlaps another place: {m['from']}")
            continue
        out += text[at:begin] + mutated(m)
        at = begin + len(m["from"])
    return out + text[at:]


def write_copy(mutations, copy):
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT / "include", copy)
    (copy / "phasebit_mutation.hpp").write_text(SELECTOR)
    complaints = []
    for name in sorted({m["file"] for m in mutations}):
        own = [m for m in mutations if m["file"] == name]
        (copy / name).write_text(mutated_file((copy / name).read_text(), name, own, complaints))
    if complaints:
        raise SystemExit("\n".join(complaints))


def read_lists(names):
    """The mistakes of the named lists, or of all."""
    paths = [HERE / f"{n.removesuffix('.json')}.json" for n in names] or sorted(HERE.glob("*.json"))
    listed = []
    for path in paths:
        if not path.is_file():
            raise SystemExit(f"there is no list {path.stem} beside mutate.py")
        listed += json.loads(path.read_text())
    return listed


def build(folder, copy, args):
    """The executable of a folder's tests, or of one file's."""
    name = folder.replace("/", "_")
    path = ROOT / "tests" / folder
    sources = [path] if path.is_file() else sorted(path.rglob("*_test.cpp"))
    if not sources:
        raise SystemExit(f"tests/{folder} has no tests")

    def compiled(source):
        target = args.work / f"{name}.{source.parent.name}.{source.stem}.o"
        command = [args.compiler, "-std=c++20", "-O1", "-w", f"-I{copy}", f"-I{ROOT}/tests", "-include",
                   str(copy / "phasebit_mutation.hpp"), f'-DPHASEBIT_TEST_SOURCE_DIR="{ROOT}/tests"',
                   "-DPHASEBIT_TEST_VERSION=0,1,0", "-c", str(source), "-o", str(target)]
        if shutil.which("ccache"):
            command.insert(0, "ccache")
        subprocess.run(command, check=True)
        return str(target)

    with ThreadPoolExecutor(args.jobs) as pool:
        objects = list(pool.map(compiled, [*sources, ROOT / "tests/main.cpp", args.work / "selected.cpp"]))
    program = args.work / f"test_{name}"
    subprocess.run([args.compiler, *objects, "-pthread", "-lfmt", "-o", str(program)], check=True)
    return program


def noticed(program, number, limit):
    """Whether the tests fail: by an assertion, a crash, or by not ending."""
    try:
        return subprocess.run([program, "--abort-after=1"], env=os.environ | {"PHASEBIT_MUTATION": str(number)},
                              timeout=limit, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL).returncode != 0
    except subprocess.TimeoutExpired:
        return True


def run_folder(folder, copy, left, args):
    """The mistakes among `left` that this folder's tests notice, by their numbers."""
    mine = [m for m in left if folder in m["tests"]]
    if not mine:
        return set()
    program = build(folder, copy, args)
    begin = time.monotonic()
    if noticed(program, 0, 170):
        raise SystemExit(f"the tests of {folder} fail without a mistake")
    limit = 20 + 8 * (time.monotonic() - begin)
    with ThreadPoolExecutor(args.jobs) as pool:
        seen = list(pool.map(lambda m: noticed(program, number_of(m), limit), mine))
    for m, found in zip(mine, seen):
        if found:
            print(f"noticed by {folder}: {m['file']}: {m['from']} -> {m['to']}", flush=True)
    return {number_of(m) for m, found in zip(mine, seen) if found}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="append", default=[], help="read only this list, such as iommu")
    parser.add_argument("--only", action="append", default=[], help="mistakes of files whose path contains this")
    parser.add_argument("--sample", type=int, default=0, help="every n-th mistake, for CI")
    parser.add_argument("--jobs", type=int, default=1, help="compilers and tests at a time")
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--work", type=Path, default=ROOT / "build/mutation")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)

    listed = read_lists(args.list)
    copy = args.work / "include"
    write_copy(listed, copy)  # all of them, which says which are out of date
    (args.work / "selected.cpp").write_text(DEFINITION)
    mutations = [m for m in listed if not args.only or any(o in m["file"] for o in args.only)]
    if args.sample:
        mutations = mutations[:: args.sample]
    write_copy(mutations, copy)

    left = mutations
    for folder in dict.fromkeys(t for m in mutations for t in m["tests"]):
        found = run_folder(folder, copy, left, args)
        left = [m for m in left if number_of(m) not in found]
    unnoticed = 0
    for m in left:
        if m.get("equivalent"):
            print(f"equivalent: {m['file']}: {m['from']} -> {m['to']}: {m['equivalent']}")
        else:
            unnoticed += 1
            print(f"NOT NOTICED: {m['file']}: {m['from']} -> {m['to']}")
    real = len(mutations) - sum(1 for m in left if m.get("equivalent"))
    share = 100 * (real - unnoticed) / real if real else 0
    print(f"{len(mutations)} mistakes, {len(mutations) - real} equivalent, {unnoticed} not noticed: {share:.1f} % noticed")
    return 1 if unnoticed or not mutations else 0


if __name__ == "__main__":
    sys.exit(main())
