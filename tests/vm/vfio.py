#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""backend::vfio on a real kernel: vfio-pci and intel-iommu under TCG, then with the IOMMU off.
Usage: vfio.py GUEST KEEP [SUITE], the Debian suite whose kernel is taken; this machine's by default. With
iommufd in its place, a kernel that has it, which is built where PHASEBIT_VM_IOMMUFD is set or it was built
before; otherwise that case is skipped."""
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import iommufd_kernel
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
case_of mask vm_guest --mask $NVME
case_of no-hot-reset vm_guest --no-hot-reset $NVME
@INTERFACE@# Two functions of one device share a group; one of them has another driver.
give 0000:00:05.0 vfio-pci
give 0000:00:05.1 nvme
expect not-viable "0000:00:05.1 (nvme): the IOMMU group is not viable" vm_guest --identify 0000:00:05.0
give 0000:00:05.1 vfio-pci
case_of viable vm_guest --identify 0000:00:05.0
echo 40 > /proc/sys/vm/nr_hugepages
case_of hugepages vm_guest --huge $NVME
case_of ranges vm_guest --ranges $NVME
echo 0 > /proc/sys/vm/nr_hugepages
vm_guest --hold $NVME 8 > /tmp/hold 2>&1 &
wait_for grep -q holding /tmp/hold
expect two-processes "@HELD@another process" vm_guest --identify $NVME
wait
vm_guest --fill $NVME 2048 64 77 && echo "PB filled: ok"
vm_guest --dump $NVME /tmp/disk && echo "PB ours: $(sha256sum < /tmp/disk | cut -d' ' -f1)"
rm -f /tmp/disk
give $NVME nvme
wait_for [ -b /dev/nvme0n1 ]
echo "PB linux: $(sha256sum < /dev/nvme0n1 | cut -d' ' -f1)"
"""


# What differs between the kernel's two interfaces.
CONTAINER = r"""LIMIT=/sys/module/vfio_iommu_type1/parameters/dma_entry_limit
was=$(cat $LIMIT); echo 3 > $LIMIT
case_of entry-limit vm_guest --entry-limit $NVME
echo $was > $LIMIT
group=/dev/vfio/$(basename $(readlink /sys/bus/pci/devices/$NVME/iommu_group))
expect no-permission "$group: no permission for the IOMMU group" vm_guest --unprivileged $NVME
chown 65534 $group
expect memory-lock "RLIMIT_MEMLOCK" vm_guest --unprivileged $NVME
chown 0 $group
"""

IOMMUFD = r"""[ -c /dev/iommu ] && echo "PB dev-iommu: ok"
cdev=/dev/vfio/devices/$(ls /sys/bus/pci/devices/$NVME/vfio-dev)
[ -c $cdev ] && echo "PB device-file: ok"
expect no-permission "$cdev: no permission" vm_guest --unprivileged $NVME
chown 65534 $cdev
expect no-permission-iommu "/dev/iommu: no permission" vm_guest --unprivileged $NVME
chown 65534 /dev/iommu
expect memory-lock "RLIMIT_MEMLOCK" vm_guest --unprivileged $NVME
chown 0 $cdev /dev/iommu
"""

WITHOUT = r"""
give 0000:00:04.0 vfio-pci 2> /dev/null
expect iommu-off "switch the IOMMU on" vm_guest --identify 0000:00:04.0
"""


def main():
    guest_binary, keep = sys.argv[1:3]
    suite = sys.argv[3] if len(sys.argv) > 3 else None
    if shutil.which("qemu-system-x86_64") is None:
        vm.skip("qemu-system-x86_64 is not installed")
    iommufd = suite == "iommufd"
    if iommufd:
        root = iommufd_kernel.kernel(build=bool(os.environ.get("PHASEBIT_VM_IOMMUFD")))
        if root is None:
            vm.skip("no Debian kernel has iommufd; PHASEBIT_VM_IOMMUFD=1 builds one, in four minutes")
        script, own = SCRIPT.replace("@INTERFACE@", IOMMUFD), ["dev-iommu", "device-file", "no-permission-iommu"]
        script = script.replace("@HELD@", "$cdev: ")
    else:
        root = vm.kernel(suite)
        script, own = SCRIPT.replace("@INTERFACE@", CONTAINER).replace("@HELD@", ""), ["entry-limit"]
    report = vm.Report(keep)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        image = work / "disk.img"
        image.write_bytes(random.Random(1).randbytes(16 << 20))
        before = vm.sha256(image)
        guest = vm.Guest(
            work, root, script, [guest_binary],
            ["-machine", "q35,kernel-irqchip=split", "-device", "intel-iommu,intremap=on",
             "-drive", f"if=none,id=d0,file={image},format=raw",
             "-device", "nvme,serial=phasebit,drive=d0,addr=04.0",
             "-drive", "if=none,id=d1,driver=null-co,size=1M", "-drive", "if=none,id=d2,driver=null-co,size=1M",
             "-device", "nvme,serial=one,drive=d1,addr=05.0,multifunction=on",
             "-device", "nvme,serial=two,drive=d2,addr=05.1"],
            "intel_iommu=on")
        lines = guest.run(240)
        got = vm.results(lines)
        report.guest("vfio", lines)
        report.check("the disk as we read it is the image", got.get("before") == before, got.get("before"))
        for name in ("not-bound", "no-device", "bad-name", "end-to-end", "interrupts", "outside", "reset", "mask",
                     "no-hot-reset", *own, "no-permission", "memory-lock", "not-viable", "viable", "hugepages",
                     "ranges", "two-processes", "filled"):
            report.check(name, got.get(name) == "ok", got.get(name))
        report.check("what we wrote is what Linux reads", "linux" in got and got.get("linux") == got.get("ours"),
                     f"{got.get('linux')} {got.get('ours')}")
        report.check("what we wrote is in the image", vm.sha256(image) == got.get("ours"), got.get("ours"))
        if not suite:
            off = vm.Guest(work, root, WITHOUT, [guest_binary],
                           ["-machine", "q35", "-device", "nvme,serial=phasebit,drive=d0,addr=04.0",
                            "-drive", "if=none,id=d0,driver=null-co,size=1M"], "intel_iommu=off")
            without = off.run(90)
            result = vm.results(without).get("iommu-off")
            report.guest("iommu-off", without)
            report.check("iommu-off", result == "ok", result)
        if report.failed:
            print(f"the console is in {report.keep_console(guest, 'vfio')}")
            print("\n".join(lines[-80:]))
    report.end()


main()
