#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""backend::mmio_linux on a real kernel, without vfio: with no IOMMU, with one that lets addresses pass,
and with one that translates. Usage: mmio.py GUEST KEEP FOLDER_OF_EXAMPLES"""
import contextlib
import random
import re
import shutil
import sys
import tempfile
from pathlib import Path

import vm

BEGIN = r"""
NVME=0000:00:04.0
DISK="--backend mmio --device $NVME"
driver() { basename $(readlink /sys/bus/pci/devices/$NVME/driver || echo none); }
give_to() { bind $NVME --to $1 --yes > /tmp/bind 2>&1 || cat /tmp/bind; }
shown() { sed "s/^/PB-$1 /"; }
"""

# What has to work wherever the device sees physical addresses.
WORKS = r"""
give_to uio_pci_generic
echo "PB driver: $(driver)"
expect no-pages "no huge pages are free" identify $DISK
echo 64 > /proc/sys/vm/nr_hugepages
identify $DISK | shown ID
nvme_copy $DISK --to /tmp/copy && echo "PB before: $(sha256sum < /tmp/copy | cut -d' ' -f1)"
rm -f /tmp/copy
case_of suite vm_guest --mmio-suite $NVME
case_of interrupts vm_guest --mmio-interrupts $NVME
case_of perf nvme_perf $DISK --rw randrw --queues 2 --size 2M --count 500 --verify --overwrite
head -c 16777216 /dev/urandom > /tmp/new
echo "PB new: $(sha256sum < /tmp/new | cut -d' ' -f1)"
nvme_copy $DISK --from /tmp/new || echo "nvme_copy --from failed"
rm -f /tmp/new
give_to kernel
wait_for [ -b /dev/nvme0n1 ]
echo "PB linux: $(sha256sum < /dev/nvme0n1 | cut -d' ' -f1)"
"""

# With no IOMMU: everything else, too.
OFF = BEGIN + r"""
expect kernels-own "($(driver)): a driver of the kernel's uses the function" identify $DISK
expect no-device "no such PCI function" identify --backend mmio --device 0000:77:00.0
expect no-name "requires a function: --device" identify --backend mmio
""" + WORKS + r"""
give_to none
echo "PB none: $(driver)"
case_of unbound vm_guest --mmio-suite $NVME
case_of reset vm_guest --mmio-reset $NVME
case_of physical vm_guest --mmio-physical $NVME
case_of no-ram vm_guest --mmio-no-ram $NVME
case_of huge vm_guest --mmio-huge $NVME
case_of write-combining vm_guest --mmio-write-combining 0000:00:05.0
case_of two vm_guest --mmio-two $NVME
expect not-root "no permission: run it as root" vm_guest --mmio-unprivileged $NVME
"""

PASSTHROUGH = BEGIN + r"""
echo "PB type: $(cat /sys/bus/pci/devices/$NVME/iommu_group/type)"
""" + WORKS

# The IOMMU translates: refused, and so is no DMA gone astray. The sentence's own advice then works.
TRANSLATED = BEGIN + r"""
echo 40 > /proc/sys/vm/nr_hugepages
group=/sys/bus/pci/devices/$NVME/iommu_group
give_to uio_pci_generic
expect refused "the IOMMU translates the addresses of this function" identify $DISK
give_to none
echo identity > $group/type
echo "PB type: $(cat $group/type)"
give_to uio_pci_generic
case_of advice identify $DISK
"""


def output(lines, name):
    prefix = f"PB-{name} "
    return "".join(line[len(prefix):] + "\n" for line in lines if line.startswith(prefix))


def main():
    guest_binary, keep, folder_of_examples = sys.argv[1:4]
    programs = [str(Path(folder_of_examples) / name) for name in ("bind", "identify", "nvme_perf", "nvme_copy")]
    if shutil.which("qemu-system-x86_64") is None:
        vm.skip("qemu-system-x86_64 is not installed")
    root = vm.kernel()
    report = vm.Report(keep)
    iommu = ["-machine", "q35,kernel-irqchip=split", "-device", "intel-iommu,intremap=on"]

    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "disk.img"

        @contextlib.contextmanager
        def boot(name, script, machine, append):
            image.write_bytes(random.Random(name).randbytes(16 << 20))
            before = vm.sha256(image)
            guest = vm.Guest(Path(folder), root, script, [guest_binary, *programs],
                             [*machine, "-drive", f"if=none,id=d0,file={image},format=raw",
                              "-device", "nvme,serial=phasebit,drive=d0,addr=04.0"], append)
            lines = guest.run(200)
            got = vm.results(lines)
            failed = len(report.failed)
            report.guest(name, lines)

            def passed(*cases):
                for case in cases:
                    report.check(f"{name}: {case}", got.get(case) == "ok", got.get(case))

            def is_(case, value):
                report.check(f"{name}: {case} is {value}", got.get(case) == value, got.get(case))

            def works():
                is_("driver", "uio_pci_generic")
                report.check(f"{name}: identify", re.search(r"^sn +: phasebit$", output(lines, "ID"), re.M),
                             output(lines, "ID"))
                is_("before", before)
                passed("no-pages", "suite", "interrupts", "perf")
                report.check(f"{name}: what we wrote is what Linux reads", "new" in got and
                             got["new"] == got.get("linux"), f"{got.get('new')} {got.get('linux')}")

            yield passed, is_, works
            if len(report.failed) != failed:
                print(f"the console is in {report.keep_console(guest, 'mmio-' + name)}")
                print("\n".join(lines[-80:]))

        card = ["-object", "memory-backend-ram,id=m,size=1M,share=on", "-device", "ivshmem-plain,memdev=m,addr=05.0"]
        with boot("off", OFF, ["-machine", "q35", *card], "intel_iommu=off") as (passed, is_, works):
            works()
            is_("none", "none")
            passed("kernels-own", "no-device", "no-name", "unbound", "reset", "physical", "no-ram", "huge", "two",
                   "not-root", "write-combining")
        with boot("passthrough", PASSTHROUGH, iommu, "intel_iommu=on iommu=pt") as (passed, is_, works):
            is_("type", "identity")
            works()
            is_("new", vm.sha256(image))
        with boot("translated", TRANSLATED, iommu, "intel_iommu=on") as (passed, is_, works):
            passed("refused", "advice")
            is_("type", "identity")
    report.end()


main()
