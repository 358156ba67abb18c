#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Puts mistakes into a copy of the headers, one at a time, and reports which tests notice.

All mistakes of a run are compiled into one build and selected at run time, so that many cost little more than
one. mutations.json lists them:

  {"file": "phasebit/ring/event_index.hpp",     below include/
   "from": "new_index - event_index - 1",       text that stands there exactly once
   "to": "new_index - event_index",             the mistake
   "kind": "expression",                        or "statement": from and to are whole statements
   "tests": ["ring"],                           components whose tests should notice
   "equivalent": "why"}                         optional: it changes no behaviour

Usage: mutate.py [--only SUBSTRING] [--sample N] [--compiler g++] [--work DIR]
Ends with status 1 if a mistake that is not equivalent stays unnoticed.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
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


def mutated(text, number, m):
    if text.count(m["from"]) != 1:
        raise SystemExit(f"{m['file']}: {text.count(m['from'])} places read: {m['from']}")
    # Constant evaluation keeps the original: static_assert must still compile.
    chosen = f"(!__builtin_is_constant_evaluated() && ::phasebit_mutation::selected == {number})"
    if m["kind"] == "expression":
        new = f"({chosen} ? ({m['to']}) : ({m['from']}))"
    elif m["kind"] == "statement":
        new = f"if ({chosen}) {{ {m['to']} }} else {{ {m['from']} }}"
    else:
        raise SystemExit(f"{m['file']}: there is no kind {m['kind']}")
    return text.replace(m["from"], new)


def build(mutations, args):
    """One executable per component, with every mistake in it."""
    copy = args.work / "include"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT / "include", copy)
    (copy / "phasebit_mutation.hpp").write_text(SELECTOR)
    (args.work / "selected.cpp").write_text(DEFINITION)
    for number, m in enumerate(mutations, 1):
        file = copy / m["file"]
        file.write_text(mutated(file.read_text(), number, m))
    programs = {}
    for component in sorted({t for m in mutations for t in m["tests"]}):
        sources = sorted((ROOT / "tests" / component).rglob("*_test.cpp"))
        objects = []
        for source in [*sources, ROOT / "tests/main.cpp", args.work / "selected.cpp"]:
            target = args.work / (component.replace("/", "_") + "." + source.stem + ".o")
            command = [args.compiler, "-std=c++20", "-O1", f"-I{copy}", f"-I{ROOT}/tests", "-include",
                       str(copy / "phasebit_mutation.hpp"), f'-DPHASEBIT_TEST_SOURCE_DIR="{ROOT}/tests"',
                       "-DPHASEBIT_TEST_VERSION=0,1,0", "-c", str(source), "-o", str(target)]
            if shutil.which("ccache"):
                command.insert(0, "ccache")
            subprocess.run(command, check=True)
            objects.append(str(target))
        program = args.work / ("test_" + component.replace("/", "_"))
        subprocess.run([args.compiler, *objects, "-pthread", "-lfmt", "-o", str(program)], check=True)
        programs[component] = program
    return programs


def noticed(program, number, limit):
    """Whether the tests fail: by an assertion, a crash, or by not ending."""
    try:
        return subprocess.run([program], env=os.environ | {"PHASEBIT_MUTATION": str(number)}, timeout=limit,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL).returncode != 0
    except subprocess.TimeoutExpired:
        return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="mistakes of files whose path contains this")
    parser.add_argument("--sample", type=int, default=0, help="every n-th mistake, for CI")
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--work", type=Path, default=ROOT / "build/mutation")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)

    mutations = [m for m in json.loads((HERE / "mutations.json").read_text()) if args.only in m["file"]]
    if args.sample:
        mutations = mutations[:: args.sample]
    programs = build(mutations, args)
    for component, program in programs.items():
        if noticed(program, 0, 170):
            print(f"the tests of {component} fail without a mistake")
            return 1

    unnoticed = 0
    for number, m in enumerate(mutations, 1):
        by = [t for t in m["tests"] if noticed(programs[t], number, 170)]
        if by:
            print(f"noticed by {', '.join(by)}: {m['file']}: {m['from']} -> {m['to']}")
        elif m.get("equivalent"):
            print(f"equivalent: {m['file']}: {m['from']} -> {m['to']}: {m['equivalent']}")
        else:
            unnoticed += 1
            print(f"NOT NOTICED: {m['file']}: {m['from']} -> {m['to']}")
    print(f"{len(mutations)} mistakes, {unnoticed} not noticed")
    return 1 if unnoticed or not mutations else 0


if __name__ == "__main__":
    sys.exit(main())
