#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Builds README's first program with README's own lines, as pasted, against an installed package, and runs it.

readme.py cmake|pkg_config SOURCE WORK PREFIX CXX
Only what README leaves out is added: include lines, namespaces and main().
"""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

kind, source, work, prefix, cxx = sys.argv[1:]
text = (Path(source) / "README.md").read_text()


def block(language, containing):
    for found in re.findall(rf"```{language}[^\n]*\n(.*?)\n```", text, re.S):
        if containing in found:
            return found
    sys.exit(f"README has no {language} block with {containing}")


program = block("cpp", "result<> hello(")
if "fmt::" in program:
    print("skipped: README's program prints with fmt, which README's lines do not bring")
    sys.exit(77)
work = Path(work)
shutil.rmtree(work, ignore_errors=True)
work.mkdir(parents=True)
(work / "engine.cpp").write_text(
    """#include <phasebit/backend/simulated.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/memory/dma_buffer.hpp>
#include <phasebit/nvme/driver.hpp>
#include <cstdio>
#include <cstring>
#include <vector>
using namespace phasebit;
using namespace phasebit::literals;
namespace simulated = phasebit::backend::simulated;
"""
    + program
    + "\nint main() { return hello(7) ? 0 : 1; }\n"
)
if kind == "cmake":
    (work / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\nproject(engine CXX)\nadd_executable(engine engine.cpp)\n"
        + block("cmake", "find_package(phasebit")
        + "\n"
    )
    subprocess.run(["cmake", "-G", "Ninja", "-S", work, "-B", work / "build", f"-DCMAKE_CXX_COMPILER={cxx}",
                    f"-DCMAKE_PREFIX_PATH={prefix}"], check=True)
    subprocess.run(["cmake", "--build", work / "build"], check=True)
    program_path = work / "build" / "engine"
else:
    if shutil.which("pkg-config") is None:
        print("skipped: pkg-config is not installed")
        sys.exit(77)
    line = next(l for l in block("sh", "pkg-config").splitlines() if "pkg-config" in l)
    line = re.sub(r"^\S+", cxx, line)
    subprocess.run(["bash", "-ec", line], cwd=work, check=True,
                   env={**os.environ, "PKG_CONFIG_PATH": f"{prefix}/share/pkgconfig"})
    program_path = work / "a.out"
subprocess.run([program_path], check=True, timeout=60)
