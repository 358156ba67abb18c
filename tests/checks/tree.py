# SPDX-License-Identifier: BSL-1.0
"""What every check asks about the source tree: its files, its components, its text without comments."""
import os
import re
import subprocess
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

Component = namedtuple("Component", "name layer freestanding folder needs")

SKIPPED = 77  # exit status that ctest shows as "skipped"


def source_files(root, *suffixes):
    """Every file of the tree with one of these endings, in order; build trees are left out."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("build") and f not in (".git", "__pycache__"))
        found += [Path(folder, f) for f in sorted(files) if f.endswith(suffixes)]
    return found


def headers(root):
    return source_files(Path(root, "include"), ".hpp")


def components(root):
    """The table of cmake/components.cmake."""
    text = Path(root, "cmake/components.cmake").read_text()
    table = []
    for line in re.findall(r'^\s*"([^"]*\|[^"]*)"', text, re.M):
        name, layer, freestanding, folder, needs = (cell.strip() for cell in line.split("|"))
        table.append(Component(name, int(layer), freestanding == "yes", folder, needs.split()))
    return table


def component_of(table, header):
    """The component that a header, named as it is included, belongs to; None if to none."""
    if header in ("phasebit/config.hpp", "phasebit/version.hpp"):
        return table[0]
    for component in table:
        at = "phasebit/" + component.folder
        if header == at + ".hpp" or header.startswith(at + "/"):
            return component
    return None


def include_name(root, header):
    return header.relative_to(Path(root, "include")).as_posix()


def freestanding(root):
    """The headers of the components that need no operating system."""
    table = components(root)
    names = [include_name(root, h) for h in headers(root)]
    chosen = [n for n in names if (component := component_of(table, n)) and component.freestanding]
    return chosen + ["phasebit/freestanding.hpp"]


def code_only(text):
    """C++ text with comments and literals blanked out, line numbers kept."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''

    def blank(match):
        if match.group(0)[0] == "'" and re.match(r"\w", text[match.start() - 1 : match.start()] or " "):
            return match.group(0)  # a digit separator: 1'000
        return re.sub(r"[^\n]", " ", match.group(0))

    return re.sub(pattern, blank, text, flags=re.S)


def includes(text):
    """(line number, name) of every include in angle brackets or quotes."""
    return [(i, m.group(1)) for i, line in enumerate(text.splitlines(), 1)
            if (m := re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line))]


def run_all(commands, jobs=None):
    """Runs commands side by side; yields (command, exit status, what it printed) in their order."""
    def run(command):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", stdin=subprocess.DEVNULL)
        return command, done.returncode, done.stdout

    with ThreadPoolExecutor(jobs or min(2, os.cpu_count() or 1)) as pool:
        yield from pool.map(run, commands)
