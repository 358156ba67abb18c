#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Writes phasebit.hpp and freestanding.hpp, the headers that include all others, from the tree."""
import sys
from pathlib import Path

import tree

ABOUT = {
    "freestanding": """\
// Everything that needs no operating system, no heap and no exceptions: layers 0 to 3. Whoever
// cares for compile time includes the headers of the rooms instead; each stands alone.
""",
    "phasebit": """\
// The whole library except hosted/, which needs fmt and Boost. Whoever cares for compile time
// includes the headers of the rooms instead; each stands alone.
""",
}


def main():
    root = Path(__file__).resolve().parents[2]
    table = tree.rooms(root)
    lists = {"freestanding": [], "phasebit": ["phasebit/freestanding.hpp"]}
    for header in tree.headers(root):
        name = tree.include_name(root, header)
        room = tree.room_of(table, name)
        if room and room.name != "hosted":
            lists["freestanding" if room.layer <= 3 else "phasebit"].append(name)
    for front, names in lists.items():
        lines = "".join(f"#include <{name}>\n" for name in sorted(names))
        Path(root, f"include/phasebit/{front}.hpp").write_text(
            f"// SPDX-License-Identifier: BSL-1.0\n{ABOUT[front]}#pragma once\n\n{lines}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
