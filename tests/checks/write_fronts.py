#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Writes phasebit.hpp and freestanding.hpp, the headers that include all others, from the tree."""
import sys
from pathlib import Path

import tree

ABOUT = {
    "freestanding": """\
// All components that need no operating system, no heap and no exceptions. To save compile time,
// include the headers of single components; each can be included alone.
""",
    "phasebit": """\
// The whole library except hosted/, which needs fmt and Boost, and testing/. To save compile time,
// include the headers of single components; each can be included alone.
""",
}


def main():
    root = Path(__file__).resolve().parents[2]
    table = tree.components(root)
    lists = {"freestanding": [], "phasebit": ["phasebit/freestanding.hpp"]}
    for header in tree.headers(root):
        name = tree.include_name(root, header)
        component = tree.component_of(table, name)
        if component and component.name not in ("hosted", "testing") and "/detail/" not in name:
            lists["freestanding" if component.freestanding else "phasebit"].append(name)
    for front, names in lists.items():
        lines = "".join(f"#include <{name}>\n" for name in sorted(names))
        Path(root, f"include/phasebit/{front}.hpp").write_text(
            f"// SPDX-License-Identifier: BSL-1.0\n{ABOUT[front]}#pragma once\n\n{lines}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
