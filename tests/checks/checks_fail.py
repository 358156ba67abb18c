#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Shows that each check fails on what it is there to refuse: a check that cannot fail checks nothing.

Each case copies the tree's rules beside one wrong file, and requires the check to fail with a text.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import tree

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SPDX = "// SPDX-License-Identifier: BSL-1.0\n"
HPP = SPDX + "#pragma once\n"
CORE = "include/phasebit/core/a.hpp"

style = lambda rule: [sys.executable, HERE / "style.py", rule, "--root", "."]  # noqa: E731
script = lambda name, *more: [sys.executable, HERE / name, "--root", ".", *more]  # noqa: E731

# (command, {file: text}, what the output must match)
CASES = [
    (style("spdx"), {CORE: "#pragma once\n"}, r"a\.hpp:1: the first line"),
    (style("spdx"), {"tests/a.sh": "#!/bin/sh\ntrue\n"}, r"a\.sh:1: the first line"),
    (style("macros"), {CORE: HPP + "#define PHASEBIT_A\n"}, r"a\.hpp:3: PHASEBIT_A: only config"),
    (style("macros"), {"include/phasebit/config.hpp": HPP + "# define LIKELY\n"}, r"LIKELY: a macro"),
    (style("ordering"), {CORE: HPP + "volatile int a;\n"}, r"a\.hpp:3: `volatile`"),
    (style("ordering"), {CORE: HPP + "inline void f() { asm(\"\"); }\n"}, r"`asm`"),
    (style("ordering"), {CORE: HPP + "inline int f(int* a) { return __atomic_load_n(a, 0); }\n"}, r"`__atomic"),
    (style("todo"), {CORE: HPP + "// TODO: more\n"}, r"a\.hpp:3: TODO"),
    (style("disabled"), {"tests/core/a_test.cpp": SPDX + "TEST_CASE(\"a\" * doctest::skip()) {}\n"}, r"doctest::skip"),
    (style("wording"), {CORE: HPP + "// Returns the next piece.\n"}, r"a\.hpp:3: `piece`: write segment"),
    (style("wording"), {CORE: HPP + "int a;  // nobody reads it\n"}, r"a\.hpp:3: `nobody`"),
    (style("wording"), {CORE: HPP + "inline constexpr auto a = \"the kernel does not say\";\n"}, r"a\.hpp:3: `say`"),
    (style("wording"), {"tests/core/a_test.cpp": SPDX + "TEST_CASE(\"a full ring tells it\") {}\n"}, r"a_test\.cpp:2: `tells`"),
    (style("wording"), {"docs/a.md": "The verdict of `piece`.\n"}, r"a\.md:1: `verdict`: write result\n1 against"),
    (style("wording"), {CORE: HPP + "// What a ring is given.\n"}, r"a\.hpp:3: begins with a clause"),
    (style("wording"), {"tests/a.sh": "#!/bin/sh\n" + SPDX.replace("//", "#") + "# The rest of it.\n"}, r"a\.sh:3: `rest`"),
    (style("layering"), {CORE: HPP + "#include <phasebit/nvme/b.hpp>\n", "include/phasebit/nvme/b.hpp": HPP},
     r"core \(L0\) includes phasebit/nvme/b\.hpp of nvme \(L3\)"),
    (style("layering"), {"include/phasebit/backend/mmio/a.hpp": HPP + "#include <phasebit/backend/vfio/b.hpp>\n",
                         "include/phasebit/backend/vfio/b.hpp": HPP}, r"backend_mmio \(L4\) includes"),
    (style("layering"), {"include/phasebit/backend/vfio/a.hpp": HPP + "#include <phasebit/backend/mmio/b.hpp>\n",
                         "include/phasebit/backend/mmio/b.hpp": HPP}, r"does not list backend_mmio as a need of backend_vfio"),
    (style("layering"), {"include/phasebit/iommu/a.hpp": HPP + "#include <phasebit/block/b.hpp>\n",
                         "include/phasebit/block/b.hpp": HPP}, r"does not list block as a need of iommu"),
    (style("layering"), {"include/phasebit/nvme/a.hpp": HPP + "#include <phasebit/posix/b.hpp>\n",
                         "include/phasebit/posix/b.hpp": HPP}, r"nvme \(L3\) includes phasebit/posix/b\.hpp"),
    (style("layering"), {"include/phasebit/backend/mmio/a.hpp": HPP + "#include <phasebit/posix/b.hpp>\n",
                         "include/phasebit/posix/b.hpp": HPP}, r"backend_mmio is freestanding"),
    (style("layering"), {CORE: HPP + "#include <phasebit/phasebit.hpp>\n"}, r"a component does not include"),
    (style("layering"), {CORE: HPP + "#include <phasebit/core/none.hpp>\n"}, r"none\.hpp does not exist"),
    (style("layering"), {CORE: HPP + "#include \"b.hpp\"\n", "include/phasebit/core/b.hpp": HPP}, r"included as <phasebit"),
    (style("layering"), {"include/phasebit/attic/a.hpp": HPP}, r"is in no component"),
    (style("fronts"), {CORE: HPP}, r"freestanding\.hpp:1: does not include phasebit/core/a\.hpp"),
    (script("preprocessed_size.py"), {CORE: HPP + "#include <map>\n#include <algorithm>\n#include <regex>\n"},
     r"a\.hpp: \d+ preprocessed lines, budget 20000"),
    (script("compile_headers.py", "--work", "w"), {CORE: HPP + "inline std::size_t a;\n"}, r"does not compile alone"),
    (script("compile_headers.py", "--work", "w"), {CORE: HPP + "inline char f(int a) { return a; }\n"}, r"-Werror=conversion"),
    (script("compile_headers.py", "--work", "w", "--alone-from", "4"), {CORE: HPP + "inline std::size_t a;\n"}, r"does not compile"),
    (script("compile_headers.py", "--work", "w", "--freestanding"), {CORE: HPP + "inline void f() { throw 1; }\n"},
     r"exception handling disabled"),
    ([HERE / "format.sh"], {CORE: HPP + "int  a ;\n"}, r"code should be clang-formatted"),
    ([HERE / "scripts.sh"], {"tests/a.sh": "#!/bin/sh\nrm -r $1/*\n"}, r"SC2115|SC2086"),
    ([HERE / "scripts.sh"], {"tests/a.py": "def f(:\n"}, r"SyntaxError"),
    ([HERE / "tidy.sh"], {CORE: HPP + "inline int f(int* a) { if (a = nullptr) return 1; return *a; }\n"}, r"bugprone|clang-diagnostic"),
    ([HERE / "tidy.sh"], {CORE: HPP + "inline int* a() { return 0; }\n"}, r"modernize-use-nullptr"),
    (script("../compile_fail/check.py", "a.cpp"), {"a.cpp": "// EXPECT: never\nint a = 1;\n"}, r"a\.cpp compiles, and must not"),
    (script("../compile_fail/check.py", "a.cpp"), {"a.cpp": "// EXPECT: never\nint a = b;\n"}, r"does not print: never"),
    (script("../compile_fail/check.py", "a.cpp"), {"a.cpp": "// EXPECT: b\nint a = b;\n"}, r"fails for another reason"),
    (script("../compile_fail/check.py", "a.cpp"), {"a.cpp": "int a = b;\n"}, r"no EXPECT"),
    (script("../freestanding/symbols.py", "--work", "w"),
     {"tests/freestanding/use_a.cpp": "extern int other(); int f() { return other(); }\n"}, r"use_a\.cpp.*needs.*other"),
    (script("../codegen/check.py", "a.cpp", "--compiler", "g++", "--architecture", "x86_64"),
     {"a.cpp": "// EXPECT f: store32\nextern \"C\" int f(int* a) { return *a; }\n"}, r"is: +load32.*should: store32"),
    (script("../codegen/check.py", "a.cpp", "--compiler", "g++", "--architecture", "x86_64"),
     {"a.cpp": "// EXPECT f: load32\nextern \"C\" int f(int* a) { *a = 1; return a[1]; }\n"}, r"is: +store32; load32"),
    (script("../codegen/check.py", "a.cpp", "--compiler", "g++", "--architecture", "x86_64"),
     {"a.cpp": "// EXPECT g: load32\nextern \"C\" int f(int* a) { return *a; }\n"}, r"the function is not there"),
    (script("../freestanding/symbols.py", "--work", "w"),
     {"tests/freestanding/use_a.cpp": "int f() { static int* a = new int; return *a; }\n"}, r"use_a\.cpp.*needs.*_Znwm"),
]


def main():
    wrong = 0
    for command, files, expected in CASES:
        with tempfile.TemporaryDirectory() as folder:
            for kept in (".clang-format", ".clang-tidy", "cmake/components.cmake", "include/phasebit/config.hpp"):
                Path(folder, kept).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / kept, Path(folder, kept))
            for front in ("version", "phasebit", "freestanding"):
                Path(folder, f"include/phasebit/{front}.hpp").write_text(HPP)
            for file, text in files.items():
                Path(folder, file).parent.mkdir(parents=True, exist_ok=True)
                Path(folder, file).write_text(text)
            done = subprocess.run([str(c) for c in command], cwd=folder, text=True, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace",
                                  env=os.environ | {"PHASEBIT_ROOT": folder, "CCACHE_DISABLE": "1"})
        name = " ".join(Path(str(c)).name for c in command if str(c) != sys.executable)
        if done.returncode == tree.SKIPPED:
            print(f"not tried, for its tool is missing: {name}")
        elif done.returncode == 0 or not re.search(expected, done.stdout, re.S):
            wrong += 1
            print(f"{name} did not refuse {files} with /{expected}/, status {done.returncode}:\n{done.stdout}")
    print(f"{len(CASES) - wrong} of {len(CASES)} wrong inputs are refused")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
