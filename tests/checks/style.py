#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Rules of style that the text of a file shows. Usage: style.py CHECK [--root DIR]"""
import argparse
import re
import sys
from pathlib import Path

import tree

def cpp_files(root):
    return tree.source_files(root, ".hpp", ".cpp", ".h")


def spdx(root):
    """Each source file names its licence: in its first line, or below the line of its interpreter."""
    line = "SPDX-License-Identifier: BSL-1.0"
    files = tree.source_files(root, ".hpp", ".cpp", ".h", ".cmake", ".py", ".sh", ".gp", "CMakeLists.txt")
    for file in files + [Path(root, ".ci/run")]:
        if file.exists():
            first = file.read_text().splitlines()[:2]
            if not any(line in text for text in first[: 2 if first and first[0].startswith("#!") else 1]):
                yield file, 1, f"the first line must be: {line}"


def macros(root):
    """config.hpp alone defines macros, and they begin with PHASEBIT_."""
    for file in tree.headers(root):
        for number, line in enumerate(tree.code_only(file.read_text()).splitlines(), 1):
            if m := re.match(r"\s*#\s*define\s+(\w+)", line):
                if tree.include_name(root, file) != "phasebit/config.hpp":
                    yield file, number, f"{m.group(1)}: only config.hpp defines macros"
                elif not m.group(1).startswith("PHASEBIT_"):
                    yield file, number, f"{m.group(1)}: a macro of ours begins with PHASEBIT_"


def ordering(root):
    """volatile, asm and __atomic appear in core/ordering.hpp, core/arch and in the Mmio models only."""
    models = re.compile(r"phasebit/(core/ordering\.hpp|core/arch/.*|backend/.*|pcie/driver/mapped_bar\.hpp)$")
    words = re.compile(r"\b(volatile|asm|__asm__|__asm|__atomic\w*|__sync_\w+)\b")
    for file in tree.headers(root):
        if models.match(tree.include_name(root, file)):
            continue
        for number, line in enumerate(tree.code_only(file.read_text()).splitlines(), 1):
            if m := words.search(line):
                yield file, number, f"`{m.group(1)}` belongs into core/ordering.hpp or an Mmio model"


def todo(root):
    """No unfinished work is left as a note in the text."""
    word = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    for file in tree.source_files(root, ".hpp", ".cpp", ".h", ".cmake", ".sh", ".gp", "CMakeLists.txt"):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if m := word.search(line):
                yield file, number, f"{m.group(1)}: do it, or file it elsewhere"


def disabled(root):
    """No test is switched off, or allowed to fail."""
    word = re.compile(r"doctest::(skip|may_fail|should_fail|expected_failures)\b|\bDISABLED\b")
    for file in tree.source_files(Path(root, "tests"), ".cpp", ".hpp", "CMakeLists.txt"):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if m := word.search(line):
                yield file, number, f"{m.group(0)}: a test runs, or it is not there"


def layering(root):
    """Includes go downward, or sideways to a component further up in cmake/components.cmake."""
    table = tree.components(root)
    position = {component.name: i for i, component in enumerate(table)}
    fronts = ("phasebit/phasebit.hpp", "phasebit/freestanding.hpp")
    for file in tree.headers(root):
        name = tree.include_name(root, file)
        own = tree.component_of(table, name)
        if own is None and name not in fronts:
            yield file, 1, "is in no component of cmake/components.cmake"
            continue
        for number, included in tree.includes(file.read_text()):
            if not included.startswith("phasebit/"):
                if (file.parent / included).exists():
                    yield file, number, f"own headers are included as <phasebit/...>: {included}"
                continue
            if not Path(root, "include", included).exists():
                yield file, number, f"{included} does not exist"
                continue
            if name in fronts:
                continue
            other = tree.component_of(table, included)
            if other is None:
                yield file, number, f"a component does not include {included}"
            elif other.layer > own.layer or position[other.name] > position[own.name]:
                yield file, number, (f"{own.name} (L{own.layer}) includes {included} of "
                                     f"{other.name} (L{other.layer})")
            elif own.freestanding and not other.freestanding:
                yield file, number, f"{own.name} is freestanding and includes {included}, which is not"
            elif other != own and other.name not in own.needs:
                yield file, number, f"cmake/components.cmake does not list {other.name} as a need of {own.name}"


def fronts(root):
    """freestanding.hpp includes every public freestanding header, phasebit.hpp all others but hosted and testing."""
    table = tree.components(root)
    wanted = {"freestanding": [], "phasebit": []}
    for header in tree.headers(root):
        name = tree.include_name(root, header)
        component = tree.component_of(table, name)
        if component and component.name not in ("hosted", "testing") and "/detail/" not in name:
            wanted["freestanding" if component.freestanding else "phasebit"].append(name)
    for front, names in wanted.items():
        file = Path(root, f"include/phasebit/{front}.hpp")
        there = [included for _, included in tree.includes(file.read_text())]
        for name in sorted(set(names) - set(there)):
            yield file, 1, f"does not include {name} (tests/checks/write_fronts.py writes the file)"


# Words of a private vocabulary, and verbs that ascribe thought or speech to things; the terms to use instead.
WORDS = {
    "piece": "segment or part", "tell": "report, return or distinguish", "tells": "reports or returns",
    "told": "reported or passed", "says": "reports, contains or specifies", "said": "reported or specified",
    "say": "report, encode or specify", "knows": "contains or supports", "know": "depend on or support",
    "nobody": "no thread, driver or requester", "whoever": "the caller", "somebody": "another driver or thread",
    "foreign": "unknown or other", "stranger": "other requester", "owed": "expected", "owes": "must return",
    "verdict": "result", "remedy": "recovery", "trouble": "fault", "dialect": "codec", "riddle": "",
    "believe": "accept or validate", "made-up": "simulated", "announce": "report", "rest": "remainder",
    "room": "space", "silence": "suppress, or no response", "silences": "suppresses", "can not": "cannot",
}


def prose(file):
    """(line number, text) of comments, of strings with more than one word, and of Markdown outside of code."""
    cpp = file.suffix in (".hpp", ".cpp", ".h")
    fenced = False
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if file.suffix == ".md":
            fenced ^= line.lstrip().startswith("```")
            if not fenced and not line.startswith("    "):
                yield number, re.sub(r"`[^`]*`", "", line)
        elif cpp and not line.lstrip().startswith("#include"):
            if m := re.match(r"\s*//+\s?(?!\s*EXPECT)(.*)", line):
                yield number, m.group(1)
                continue
            strings = re.findall(r'"((?:[^"\\]|\\.)*)"', line)
            comment = re.sub(r'"(?:[^"\\]|\\.)*"', "", line).partition("//")[2]
            yield number, " ".join([s for s in strings if " " in s.strip()] + [comment])
        elif not cpp and (m := re.match(r"\s*#(?!!)\s?(.*)", line)):
            yield number, m.group(1)


def wording(root):
    """Comments, messages, test names and documents use the field's terms (the glossary is in docs/architecture.md)."""
    words = re.compile(r"\b(" + "|".join(map(re.escape, WORDS)) + r")s?\b", re.I)
    opening = re.compile(r"(What|That|Which|Who|Whose|Whom)\b(?![^.]*\?)")
    for file in tree.source_files(root, ".hpp", ".cpp", ".h", ".md", ".sh", ".cmake", "CMakeLists.txt"):
        name = file.relative_to(root).as_posix()
        if name == "CHANGELOG.md":
            continue
        before = "."
        for number, text in prose(file):
            if m := words.search(text):
                word = m.group(1).lower()
                yield file, number, f"`{m.group(0)}`" + (f": write {WORDS[word]}" if WORDS[word] else "")
            if opening.match(text.lstrip("*- ")) and re.search(r"(^|[.:!?])\s*$", before):
                yield file, number, f"begins with a clause, `{text.split()[0]} ...`: begin with the subject"
            before = "." if "SPDX" in text else text


CHECKS = {f.__name__: f for f in (spdx, macros, ordering, todo, disabled, layering, fronts, wording)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    args = parser.parse_args()
    check = CHECKS[args.check]
    problems = list(check(args.root))
    for file, line, text in problems:
        print(f"{file.relative_to(args.root)}:{line}: {text}")
    if problems:
        print(f"{len(problems)} against the rule: {check.__doc__}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
