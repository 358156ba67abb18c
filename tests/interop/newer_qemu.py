#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Prints the path of a QEMU of version 10 or later: newer_qemu.py qemu-system-riscv64 [11]

With 11, of version 11 or later. The machine's own, where it is new enough; otherwise Debian trixie's, or that of
trixie-backports, unpacked into a cache and run by its own loader with its own libraries. Exit status 77: there is
none, and the line gives the reason.
"""
import os
import platform
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from debian import alone, skip, unpacked, version_of  # noqa: E402

# By major version: the suite, and the packages taken from it.
SOURCES = {10: ("trixie", ["qemu-system-arm", "qemu-system-riscv", "qemu-system-x86"]),
           11: ("trixie-backports", ["qemu-system-x86"])}


def main(program, major):
    wanted = (major, 0)
    suite, packages = SOURCES[major]
    own = shutil.which(program)
    if own and (version_of(own) or (0, 0)) >= wanted:
        return own
    if platform.machine() != "x86_64":
        skip(f"{program} {major} or later is not installed, and is only fetched on x86-64")
    root = unpacked(f"{suite}-qemu", suite, packages)
    libraries = root / "usr/lib/x86_64-linux-gnu"
    loader = root / "usr/lib64/ld-linux-x86-64.so.2"
    if not (root / "usr/bin" / program).exists():
        skip(f"Debian {suite} has no {program}")
    script = root / "run" / program
    with alone("wrappers"):
        if not script.exists():
            script.parent.mkdir(exist_ok=True)
            draft = script.with_suffix(".draft")
            # exec: the process that was started is QEMU, and is ended by its id.
            draft.write_text(f'#!/bin/sh\nexec "{loader}" --library-path "{libraries}" '
                             f'"{root}/usr/bin/{program}" -L "{root}/usr/share/qemu" -L "{root}/usr/share/seabios" "$@"\n')
            draft.chmod(0o755)
            os.replace(draft, script)
    if (version_of(script) or (0, 0)) < wanted:
        skip(f"{program} of Debian {suite} does not run here")
    return script


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or (len(sys.argv) == 3 and sys.argv[2] not in map(str, SOURCES)):
        sys.exit(__doc__)
    print(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) == 3 else 10))
