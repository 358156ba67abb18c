#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""A kernel with iommufd and vfio's character devices, which no Debian kernel has: built from Debian
trixie's linux-source-6.12, with as little in it as the cases need, and kept in the cache. Takes about
four minutes on two cores, once. Usage: iommufd_kernel.py; prints where it is."""
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from debian import CACHE, alone, last_words, need_tools, other_suite, run, skip  # noqa: E402

SUITE = "trixie"
SOURCE = "linux-source-6.12"
# On top of `make tinyconfig`.
WANTED = """64BIT PRINTK TTY SERIAL_8250 SERIAL_8250_CONSOLE BLK_DEV_INITRD RD_GZIP BINFMT_ELF BINFMT_SCRIPT
PROC_FS SYSFS PROC_SYSCTL PROC_PAGE_MONITOR SHMEM TMPFS DEVTMPFS HUGETLBFS MULTIUSER FUTEX EPOLL EVENTFD SIGNALFD
TIMERFD POSIX_TIMERS HIGH_RES_TIMERS FILE_LOCKING ADVISE_SYSCALLS NET UNIX ACPI PCI PCI_MSI PCIEPORTBUS PCI_IOV
X86_LOCAL_APIC X86_IO_APIC X86_X2APIC IRQ_REMAP IOMMU_SUPPORT INTEL_IOMMU BLOCK BLK_DEV BLK_DEV_NVME
IOMMUFD VFIO VFIO_GROUP VFIO_CONTAINER VFIO_DEVICE_CDEV VFIO_PCI""".split()
UNWANTED = ["MODULES", "DEBUG_INFO", "RANDOMIZE_BASE", "WERROR"]
NEEDED = {"IOMMUFD", "VFIO_DEVICE_CDEV", "VFIO_PCI", "INTEL_IOMMU", "BLK_DEV_NVME"}
TOOLS = ["gcc", "make", "flex", "bison", "bc", "tar", "xz"]


def made(folder):
    """The kernel's image."""
    options = other_suite(SUITE)
    os.chmod(folder, 0o777)  # apt downloads as a user of its own
    run("apt-get", *options, "-q", "download", SOURCE, cwd=folder)
    run("dpkg", "-x", str(next(Path(folder).glob("*.deb"))), f"{folder}/root")
    run("tar", "-C", folder, "-xf", f"{folder}/root/usr/src/{SOURCE}.tar.xz")
    tree = Path(folder, SOURCE)
    fragment = tree / "wanted.config"
    fragment.write_text("".join([f"CONFIG_{name}=y\n" for name in WANTED] + [f"CONFIG_{name}=n\n" for name in UNWANTED]))
    run("make", "-s", "tinyconfig", cwd=tree)
    run("scripts/kconfig/merge_config.sh", "-m", ".config", str(fragment), cwd=tree)
    run("make", "-s", "olddefconfig", cwd=tree)
    got = {line[7:].split("=")[0] for line in (tree / ".config").read_text().splitlines() if line.endswith("=y")}
    if missing := NEEDED - got:
        skip(f"{SOURCE} of {SUITE} is not to be configured with {', '.join(sorted(missing))}")
    subprocess.run(["make", "-s", f"-j{os.cpu_count() or 2}", "bzImage"], cwd=tree, check=True, text=True,
                   capture_output=True, timeout=1500)
    return tree / "arch/x86/boot/bzImage"


def kernel(build=True):
    """The folder that holds it as vmlinuz; nothing where it is not there and is not to be built."""
    root = CACHE / f"{SUITE}-{SOURCE}-iommufd"
    with alone(root.name):
        if (root / "complete").exists():
            return root
        if not build:
            return None
        need_tools()
        for tool in TOOLS:
            if shutil.which(tool) is None:
                skip(f"there is no {tool} to build a kernel with iommufd")
        try:
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                image = made(folder)
                root.mkdir(exist_ok=True)
                shutil.move(image, root / "vmlinuz")
                (root / "complete").touch()
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as e:
            skip(f"no kernel with iommufd can be built: {last_words(e)}")
    return root


if __name__ == "__main__":
    print(kernel())
