#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""backend::vfio on a real kernel: vfio-pci and intel-iommu under TCG. Usage: vfio.py GUEST KEEP"""
import random
import shutil
import sys
import tempfile
from pathlib import Path

import vm

SCRIPT = r"""
NVME=0000:00:04.0
echo "PB group: $(basename $(readlink /sys/bus/pci/devices/$NVME/iommu_group))"
expect not-bound "not bound to vfio-pci" vm_guest --identify $NVME
expect no-device "no such PCI function" vm_guest --identify 0000:77:00.0
expect bad-name "is written 0000:01:00.0" vm_guest --identify nonsense
give $NVME vfio-pci
vm_guest --dump $NVME /tmp/disk && echo "PB before: $(sha256sum < /tmp/disk | cut -d' ' -f1)"
rm -f /tmp/disk
case_of end-to-end vm_guest --suite $NVME
case_of interrupts vm_guest --interrupts $NVME
case_of outside vm_guest --outside $NVME
case_of reset vm_guest --reset $NVME
echo 32 > /proc/sys/vm/nr_hugepages
echo "PB huge-before: $(grep HugePages_Free /proc/meminfo | tr -s ' ' | cut -d' ' -f2)"
case_of hugepages vm_guest --huge $NVME
echo 0 > /proc/sys/vm/nr_hugepages
vm_guest --hold $NVME 8 > /tmp/hold 2>&1 &
while ! grep -q holding /tmp/hold; do sleep 0.2; done
expect two-processes "another process" vm_guest --identify $NVME
wait
vm_guest --fill $NVME 2048 64 77 && echo "PB filled: ok"
vm_guest --dump $NVME /tmp/disk && echo "PB ours: $(sha256sum < /tmp/disk | cut -d' ' -f1)"
rm -f /tmp/disk
give $NVME nvme
wait_for [ -b /dev/nvme0n1 ]
echo "PB linux: $(sha256sum < /dev/nvme0n1 | cut -d' ' -f1)"
"""


def main():
    guest_binary, keep = sys.argv[1:3]
    if shutil.which("qemu-system-x86_64") is None:
        vm.skip("qemu-system-x86_64 is not installed")
    root = vm.kernel()
    report = vm.Report(keep)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        image = work / "disk.img"
        image.write_bytes(random.Random(1).randbytes(16 << 20))
        before = vm.sha256(image)
        guest = vm.Guest(
            work, root, SCRIPT, [guest_binary],
            ["-machine", "q35,kernel-irqchip=split", "-device", "intel-iommu,intremap=on",
             "-drive", f"if=none,id=d0,file={image},format=raw",
             "-device", "nvme,serial=phasebit,drive=d0,addr=04.0"],
            "intel_iommu=on")
        lines = guest.run(240)
        got = vm.results(lines)
        report.guest("vfio", lines)
        report.check("the disk as we read it is the image", got.get("before") == before, got.get("before"))
        for name in ("not-bound", "no-device", "bad-name", "end-to-end", "interrupts", "outside", "reset",
                     "hugepages", "two-processes", "filled"):
            report.check(name, got.get(name) == "ok", got.get(name))
        report.check("what we wrote is what Linux reads", "linux" in got and got.get("linux") == got.get("ours"),
                     f"{got.get('linux')} {got.get('ours')}")
        report.check("what we wrote is in the image", vm.sha256(image) == got.get("ours"), got.get("ours"))
        if report.failed:
            print(f"the console is in {report.keep_console(guest, 'vfio')}")
            print("\n".join(lines[-80:]))
    report.end()


main()
