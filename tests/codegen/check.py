#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Compares the instructions of a file's functions with its EXPECT lines.

Usage: check.py FILE --architecture aarch64 --compiler "aarch64-linux-gnu-g++"

Each function is reduced to what touches memory or orders it: a list of tokens such as
`load32; dmb oshld; store32`, widths in bits, any conditional jump a `branch`. Arithmetic on
registers is left out, for it is the compiler's own business; a load, store or barrier more or less
than expected is a failure. A line `// EXPECT function: regex` gives the tokens that are required, with
barriers by the names of BARRIERS: `<before_mmio>; store32`. `// EXPECT(arm) function: ...` is for
one architecture and goes before the other.
"""
import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

SKIPPED = 77
FLAGS = ["-std=c++20", "-O2", "-ffreestanding", "-fno-exceptions", "-fno-rtti", "-fomit-frame-pointer",
         "-fno-asynchronous-unwind-tables", "-fno-stack-protector", "-fno-pic", "-S", "-o", "-"]

# What the barriers of core/ordering.hpp are on each architecture. "" orders the compiler alone.
BARRIERS = {
    "x86_64": {"acquire": "", "release": "", "full": "lock orl", "thread_full": "lock orl",
               "before_mmio": "", "after_mmio": "", "drain": "sfence",
               "thread_load": "load{}", "thread_store": "store{}"},
    "aarch64": {"acquire": "dmb oshld", "release": "dmb osh", "full": "dmb osh", "thread_full": "dmb ish",
                "before_mmio": "dmb osh", "after_mmio": "dmb oshld", "drain": "dsb osh",
                "thread_load": "(ldar|ldapr)h?", "thread_store": "stlrh?"},
    "riscv64": {"acquire": "fence r,rw", "release": "fence rw,w", "full": "fence rw,rw",
                "thread_full": "fence rw,rw", "before_mmio": "fence rw,ow", "after_mmio": "fence ir,rw",
                "drain": "fence orw,ow",
                "thread_load": "load{}; fence (r,rw|iorw,iorw)", "thread_store": "fence rw,w; store{}"},
    "arm": {"acquire": "dmb", "release": "dmb", "full": "dmb", "thread_full": "dmb", "before_mmio": "dmb",
            "after_mmio": "dmb", "drain": "dsb",
            "thread_load": "(ldah?|load{}; dmb ish)", "thread_store": "(stlh?|dmb ish; store{})"},
}

def expectations(text, architecture):
    """{function: regex} of a file's EXPECT lines."""
    found = {}
    for only, function, tokens in re.findall(r"^// EXPECT(?:\((\w+)\))? (\w+): (.*)$", text, re.M):
        if only == architecture or (not only and function not in found):
            found[function] = filled(tokens.strip(), architecture)
    return found


def filled(expected, architecture):
    """`expected` with the barriers of this architecture in their places."""
    def barrier(match):
        token = BARRIERS[architecture][match.group(1)].format(match.group(3) or "")
        return token + (match.group(4) if token else "")  # where it is no instruction, nothing is left

    return re.sub(r"<(\w+)(:(\d+))?>((?:; )?)", barrier, expected).removesuffix("; ")


def x86_64(mnemonic, operands):
    if mnemonic in ("mfence", "sfence", "lfence"):
        return mnemonic
    if mnemonic == "lock":
        return "lock " + operands.split()[0]
    if mnemonic.startswith("j"):
        return "branch"
    if "(" not in operands or mnemonic.startswith("lea"):
        return None
    wide = re.match(r"mov[sz]([bw])[lq]?$", mnemonic)
    width = {"b": 8, "w": 16, "l": 32, "q": 64}[wide.group(1) if wide else mnemonic[-1]]
    stores = mnemonic.startswith("mov") and operands.rstrip().endswith(")")
    return f"{'store' if stores else 'load'}{width}"


def aarch64(mnemonic, operands):
    if mnemonic in ("dmb", "dsb", "isb"):
        return f"{mnemonic} {operands.strip()}"
    if re.match(r"(ldar|ldapr|stlr)[bh]?$", mnemonic):
        return mnemonic
    if re.match(r"(cbn?z|tbn?z|b\..*|b[a-z]{2})$", mnemonic):
        return "branch"
    if m := re.match(r"(ld|st)u?r(b|h|sw|sb|sh)?$", mnemonic):
        width = {"b": 8, "sb": 8, "h": 16, "sh": 16, "sw": 32}.get(m.group(2)) or (
            64 if operands.strip().startswith("x") else 32)
        return f"{'load' if m.group(1) == 'ld' else 'store'}{width}"
    return mnemonic if mnemonic.startswith(("ld", "st")) else None


def riscv64(mnemonic, operands):
    if mnemonic == "fence":
        return "fence " + operands.replace(" ", "")
    if m := re.match(r"(l|s)(b|h|w|d)u?$", mnemonic):
        return f"{'load' if m.group(1) == 'l' else 'store'}{dict(b=8, h=16, w=32, d=64)[m.group(2)]}"
    if re.match(r"b(eq|ne|lt|ge)", mnemonic):
        return "branch"
    return mnemonic if mnemonic.startswith(("amo", "lr.", "sc.", "call", "tail")) else None


def arm(mnemonic, operands):
    if mnemonic in ("dmb", "dsb", "isb"):
        return f"{mnemonic} {operands.strip()}".strip().removesuffix(" sy")
    if re.match(r"(lda|stl)[bh]?$", mnemonic):
        return mnemonic
    if re.match(r"(cbn?z|b(eq|ne|cs|cc|hi|ls|hs|lo|ge|lt|gt|le))(\.n|\.w)?$", mnemonic):
        return "branch"
    if m := re.match(r"(ld|st)r(b|h|d)?(\.w|\.n)?$", mnemonic):
        return f"{'load' if m.group(1) == 'ld' else 'store'}{dict(b=8, h=16, d=64).get(m.group(2), 32)}"
    return mnemonic if mnemonic.startswith(("ld", "st", "bl ")) else None


READERS = {"x86_64": x86_64, "aarch64": aarch64, "riscv64": riscv64, "arm": arm}


def functions(assembly, architecture):
    """{name: [token]} of every function in a compiler's output, up to its first return."""
    found = {}
    current = None
    for line in assembly.splitlines():
        line = re.split(r"//|#NO_APP|#APP|\t@|\s# ", line)[0].rstrip()
        if m := re.match(r"(\w+):", line):
            current = found.setdefault(m.group(1), [])
            continue
        if current is None or not line.strip() or re.match(r"\s*[.#@]|\.L", line):
            continue
        for part in line.split(";"):
            words = part.split(None, 1)
            if not words:
                continue
            if re.match(r"(ret|retq|bx)$", words[0]):
                current = None
                break
            if token := READERS[architecture](words[0], words[1] if len(words) > 1 else ""):
                current.append(token)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("--architecture", choices=READERS, required=True)
    parser.add_argument("--compiler", required=True)
    args = parser.parse_args()

    compiler = shlex.split(args.compiler)
    if not shutil.which(compiler[0]):
        print(f"skipped: {compiler[0]} is not installed")
        return SKIPPED
    done = subprocess.run(compiler + FLAGS + [f"-I{args.root}/include", str(args.file)], text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    missing = re.search(r"fatal error: '?([\w/.]+)'?(: No such file| file not found)", done.stdout)
    if missing and not missing.group(1).startswith("phasebit/"):
        print(f"skipped: {args.compiler} has no <{missing.group(1)}> for {args.architecture}")
        return SKIPPED
    if done.returncode:
        print(f"{args.file} does not compile with {args.compiler}:\n{done.stdout}")
        return 1

    wanted = expectations(args.file.read_text(), args.architecture)
    found = functions(done.stdout, args.architecture)
    wrong = 0
    for name, regex in wanted.items():
        got = "; ".join(found.get(name, ["(the function is not there)"]))
        if not re.fullmatch(regex, got):
            wrong += 1
            print(f"{name} with {args.compiler}\n  is:     {got}\n  should: {regex}")
    print(f"{len(wanted) - wrong} of {len(wanted)} functions match {args.file.name}")
    return 1 if wrong or not wanted else 0


if __name__ == "__main__":
    sys.exit(main())
