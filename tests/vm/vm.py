#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Boots Debian's kernel in QEMU with our binaries in an initramfs, and prints their output.

The kernel comes from Debian's package (downloaded and unpacked, never installed) and is kept in a
cache outside the tree. Software emulation, no KVM. Exit status 77: QEMU or the kernel cannot be had
here, and the last line says which. The guest's console is kept where a case failed.
"""
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from debian import CACHE, last_words, need_tools, other_suite, run, skip  # noqa: E402

# What the cases use; what these need in turn is read from the files. A kernel that has one built in,
# or has it under no name at all, has no such file.
MODULES = ["vfio-pci", "vfio_iommu_type1", "iommufd", "uio_pci_generic", "crct10dif_generic",
           "crc64_rocksoft_generic", "nvme"]


# What every case's script may call.
GUEST_FUNCTIONS = r"""
give() { # BDF DRIVER
  echo $2 > /sys/bus/pci/devices/$1/driver_override
  [ -e /sys/bus/pci/devices/$1/driver ] && echo $1 > /sys/bus/pci/devices/$1/driver/unbind
  echo $1 > /sys/bus/pci/drivers_probe
}
expect() { # NAME WORDS COMMAND...: must fail with these words in its output
  name=$1; words=$2; shift 2
  if out=$("$@" 2>&1); then echo "PB $name: it succeeded"
  elif echo "$out" | grep -q "$words"; then echo "PB $name: ok"
  else echo "PB $name: its output: $(echo $out)"; fi
}
case_of() { # NAME COMMAND...: must end with status 0
  name=$1; shift
  if out=$(timeout 100 "$@" 2>&1); then echo "PB $name: ok"
  else echo "$out" | tail -40; echo "PB $name: failed"; fi
}
wait_for() { # COMMAND...: up to ten seconds, until it succeeds
  for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    "$@" && return 0
    sleep 0.5
  done
  return 1
}
"""


def kernel(suite=None):
    """The folder with vmlinuz and the modules of the newest kernel that the package lists name: of the
    machine's own Debian, or of another suite on the mirror it is set up with."""
    need_tools()
    found = sorted(CACHE.glob(f"{suite or 'own'}-linux-image-*/complete"))
    if found:
        return found[-1].parent
    try:
        options = other_suite(suite) if suite else []
        names = re.findall(r"Depends: (linux-image-\S+-amd64)",
                           run("apt-cache", *options, "depends", "linux-image-amd64"))
        if not names:
            skip("the package lists name no linux-image for amd64")
        root = CACHE / f"{suite or 'own'}-{names[0]}"
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            os.chmod(work, 0o777)  # apt downloads as a user of its own
            # Newer suites split a kernel over packages that the image only depends on.
            parts = re.findall(r"Depends: (linux-(?:base|binary|modules)-\S+-amd64)",
                               run("apt-cache", *options, "depends", names[0]))
            run("apt-get", *options, "-q", "download", names[0], *parts, cwd=work)
            for package in Path(work).glob("*.deb"):
                run("dpkg", "-x", str(package), f"{work}/root")
            shutil.rmtree(root, ignore_errors=True)
            os.replace(f"{work}/root", root)
            (root / "complete").touch()
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as e:
        skip(f"no kernel{f' of {suite}' if suite else ''} can be downloaded: {last_words(e)}")
    return root


def busybox():
    path = shutil.which("busybox", path="/bin:/usr/bin")
    if path is None or b"statically linked" not in subprocess.run(["file", "-L", path], capture_output=True).stdout:
        # Without file(1) to ask, a static one is recognised by its missing interpreter.
        if path is None or b"/ld-linux" in Path(path).read_bytes()[:4096]:
            skip("busybox-static is not installed")
    return Path(path)


def newc(entries):
    """A cpio archive (the kernel's initramfs format) of (name, mode, bytes)."""
    out = bytearray()
    for number, (name, mode, data) in enumerate(entries + [("TRAILER!!!", 0, b"")], 1):
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        out += b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def modules(root, wanted):
    """The files of these modules and of those they need, each after what it needs."""
    files = {re.sub(r"\.ko.*", "", path.name).replace("-", "_"): path
             for path in root.glob("**/lib/modules/**/*.ko*")}
    ordered = {}

    def add(name):
        name = name.replace("-", "_")
        if name in ordered or name not in files:
            return
        data = files[name].read_bytes()
        if files[name].suffix == ".xz":
            data = lzma.decompress(data)
        ordered[name] = None  # a circle would end here
        needed = re.search(rb"\0depends=([^\0]*)\0", data)
        for other in needed.group(1).decode().split(",") if needed else []:
            add(other)
        del ordered[name]
        ordered[name] = data

    for name in wanted:
        add(name)
    return ordered


def libraries(binary):
    """The shared libraries that a program needs, its loader too: {where it looks: the file}."""
    output = subprocess.run(["ldd", binary], capture_output=True, text=True).stdout
    return {path: Path(path).read_bytes() for path in re.findall(r"(/\S+) \(0x", output)}


def stripped(binary):
    with tempfile.NamedTemporaryFile() as out:
        if shutil.which("strip") and subprocess.run(["strip", "-o", out.name, binary]).returncode == 0:
            return Path(out.name).read_bytes()
    return Path(binary).read_bytes()


def initramfs(root, binaries, script, parameters, more_modules=(), files=()):
    entries = [(d, 0o40755, b"") for d in ("bin", "dev", "lib", "proc", "sys", "tmp", "mnt")]
    entries += files
    folders = {"bin", "lib"}
    entries.append(("bin/busybox", 0o100755, busybox().read_bytes()))
    load = []
    for name, data in modules(root, [*MODULES, *more_modules]).items():
        entries.append((f"lib/{name}.ko", 0o100644, data))
        load.append(f"insmod /lib/{name}.ko {parameters.get(name, '')} || echo 'no module {name}'")
    shared = {}
    for binary in binaries:
        entries.append((f"bin/{Path(binary).name}", 0o100755, stripped(binary)))
        shared.update(libraries(binary))
    for path, data in shared.items():
        parents = [str(p) for p in Path(path.lstrip("/")).parents if str(p) != "."]
        for folder in reversed(parents):
            if folder not in folders:
                folders.add(folder)
                entries.append((folder, 0o40755, b""))
        entries.append((path.lstrip("/"), 0o100755, data))
    init = "\n".join(["#!/bin/busybox sh", "/bin/busybox --install -s /bin", "export PATH=/bin",
                      "mount -t proc proc /proc", "mount -t sysfs sys /sys", "mount -t devtmpfs dev /dev",
                      "mount -t tmpfs tmp /tmp", "mkdir -p /dev/hugepages",
                      "mount -t hugetlbfs huge /dev/hugepages 2>/dev/null",
                      "echo 1 > /proc/sys/kernel/printk", "ulimit -l unlimited",
                      *load, GUEST_FUNCTIONS, script, "echo PB-END", "poweroff -f", "sleep 60"])
    entries.append(("init", 0o100755, init.encode()))
    return gzip.compress(newc(entries), compresslevel=1)


class Guest:
    """One boot. Lines that the guest prints as `PB name: text` are its results."""

    def __init__(self, work, root, script, binaries, arguments, append, parameters=None, modules=(), files=()):
        # Each boot has a console of its own: a later one does not overwrite what is to be kept.
        self.console = work / f"console{len(list(work.glob('console*')))}.txt"
        self.console.touch()
        self.qmp_path = work / "qmp.sock"
        (work / "initrd").write_bytes(initramfs(root, binaries, script, parameters or {}, modules, files))
        vmlinuz = next(p for p in root.glob("**/vmlinuz*") if p.is_file())
        # Where the machine is busy the kernel's check of its timer fails: not for a guest under emulation.
        self.command = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "768M", "-smp", "1",
                        "-nodefaults", "-display", "none", "-no-reboot", "-kernel", str(vmlinuz),
                        "-initrd", str(work / "initrd"), "-serial", f"file:{self.console}",
                        "-qmp", f"unix:{self.qmp_path},server=on,wait=off",
                        "-append", f"console=ttyS0 panic=-1 quiet no_timer_check {append}", *arguments]

    def qmp(self, execute, **arguments):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.qmp_path))
            f = s.makefile("rw")
            f.readline()
            for command in ({"execute": "qmp_capabilities"}, {"execute": execute, "arguments": arguments}):
                f.write(json.dumps(command) + "\n")
                f.flush()
                while "event" in (answer := json.loads(f.readline())):
                    pass
            return answer

    def run(self, seconds, on_line=None):
        """Ends when the guest powers off, or after `seconds`; returns the console's lines."""
        process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + seconds
        seen = 0
        try:
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
                lines = self.lines()[:-1]
                for line in lines[seen:]:
                    if on_line:
                        on_line(line)
                seen = len(lines)
        finally:
            timed_out = process.poll() is None
            if timed_out:
                process.kill()
            _, errors = process.communicate()
        if timed_out:
            print(f"the guest did not end within {seconds} s")
        if process.returncode not in (0, -9):
            print(errors.decode(errors="replace"))
        return self.lines()

    def lines(self):
        if not self.console.exists():
            return [""]
        return self.console.read_text(errors="replace").replace("\r", "").split("\n")


def results(lines):
    found = {}
    for line in lines:
        if match := re.search(r"PB ([\w-]+): (.*)", line):
            found[match.group(1)] = match.group(2).strip()
    return found


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class Report:
    """What was expected and what came; ends the program with the right status."""

    def __init__(self, keep):
        self.keep = Path(keep)
        self.failed = []
        self.passed = 0

    def check(self, name, good, got=""):
        print(f"{'ok    ' if good else 'FAILED'} {name}{'' if good else f': {got}'}", flush=True)
        if good:
            self.passed += 1
        else:
            self.failed.append(name)

    def guest(self, name, lines):
        if "PB-END" not in lines:
            self.check(f"{name}: the guest came to its end", False, "see its console")

    def keep_console(self, guest, name):
        self.keep.mkdir(parents=True, exist_ok=True)
        target = self.keep / f"{name}.console.txt"
        if guest.console.exists():
            shutil.copy(guest.console, target)
        return target

    def end(self):
        print(f"{self.passed} passed, {len(self.failed)} failed")
        sys.exit(1 if self.failed else 0)
