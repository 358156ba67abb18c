#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Prints the path of a QEMU of version 10 or later: newer_qemu.py qemu-system-riscv64

The machine's own, where it is new enough; otherwise Debian trixie's, unpacked into a cache and run
by its own loader with its own libraries. Exit status 77: it cannot be had, and the line says why.

newest() is the same for what only the QEMU of trixie-backports has: vfio-user-pci needs 10.1.
"""
import os
import platform
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from debian import alone, skip, unpacked, version_of  # noqa: E402

WANTED = (10, 0)
SUITE = "trixie"
PACKAGES = ["qemu-system-arm", "qemu-system-riscv", "qemu-system-x86"]


def main(program, wanted=WANTED, suite=SUITE, packages=tuple(PACKAGES)):
    own = shutil.which(program)
    if own and (version_of(own) or (0, 0)) >= wanted:
        return own
    if platform.machine() != "x86_64":
        skip(f"{program} {wanted[0]}.{wanted[1]} or later is not installed, and is only fetched on x86-64")
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
            # exec: whoever starts this ends QEMU by the same process id.
            draft.write_text(f'#!/bin/sh\nexec "{loader}" --library-path "{libraries}" '
                             f'"{root}/usr/bin/{program}" -L "{root}/usr/share/qemu" "$@"\n')
            draft.chmod(0o755)
            os.replace(draft, script)
    if (version_of(script) or (0, 0)) < wanted:
        skip(f"{program} of Debian {suite} does not run here")
    return script


def newest(program, wanted):
    """A QEMU of the version `wanted`, (major, minor), or later, for programs of qemu-system-x86."""
    return main(program, wanted, f"{SUITE}-backports", ("qemu-system-x86",))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(main(sys.argv[1]))
