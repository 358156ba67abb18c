#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""The examples on a real kernel: bind moves an NVMe function between the kernel's drivers, identify,
nvme_perf and nvme_copy use it over vfio. Usage: examples.py GUEST KEEP FOLDER_OF_EXAMPLES"""
import json
import random
import re
import shutil
import sys
import tempfile
from pathlib import Path

import vm

SCRIPT = r"""
NVME=0000:00:04.0
DISK="--backend vfio --device $NVME"
driver() { basename $(readlink /sys/bus/pci/devices/$1/driver || echo none); }
shown() { sed "s/^/PB-$1 /"; }
wait_for [ -b /dev/nvme0n1 ]
first=$(basename $(ls -d /sys/bus/pci/devices/$NVME/nvme/nvme*))
second=$(basename $(ls -d /sys/bus/pci/devices/0000:00:05.0/nvme/nvme*))
wait_for [ -b /dev/${second}n1 ]
mke2fs /dev/${second}n1 > /dev/null && mount -t ext4 /dev/${second}n1 /mnt
bind | sed "s/${first}n1/FIRST/; s/${second}n1/SECOND/" | shown LIST
bind --json | shown JSON
expect mounted "0000:00:05.0: is in use: ${second}n1 is mounted on /mnt" bind 0000:00:05.0 --to vfio-pci --yes
umount /mnt
bind 0000:00:05.0 0000:00:05.1 --to vfio-pci --yes | shown PAIR
echo "PB pair: $(driver 0000:00:05.0) $(driver 0000:00:05.1)"
bind $NVME --to vfio-pci | shown DRY
echo "PB dry: $(driver $NVME)"
bind $NVME --to vfio-pci --yes > /dev/null && echo "PB vfio: $(driver $NVME)"
identify $DISK | shown ID
nvme_copy $DISK --to /tmp/copy && echo "PB before: $(sha256sum < /tmp/copy | cut -d' ' -f1)"
case_of perf nvme_perf $DISK --rw randrw --queues 2 --size 2M --count 500 --verify --overwrite
echo "PB perf-json: $(nvme_perf $DISK --rw randread --count 300 --json | tr -d '\n ')"
# As it was, it is on the host; as it is now, after nvme_perf, is what Linux has to read below.
nvme_copy $DISK --to /tmp/copy && echo "PB copied: $(sha256sum < /tmp/copy | cut -d' ' -f1)"
expect no-image "differ in size" nvme_copy $DISK --from /init
vm_guest --hold $NVME 8 > /tmp/hold 2>&1 &
wait_for grep -q holding /tmp/hold
expect held "is in use: /dev/vfio/.* is open in process .* (vm_guest)" bind $NVME --to kernel --yes
wait
bind $NVME --to kernel --yes > /dev/null && echo "PB kernel: $(driver $NVME)"
wait_for [ -b /dev/nvme0n1 ]
echo "PB linux-copied: $(sha256sum < /dev/nvme0n1 | cut -d' ' -f1)"
bind $NVME --to vfio-pci --yes > /dev/null
head -c 16777216 /dev/urandom > /tmp/new
echo "PB new: $(sha256sum < /tmp/new | cut -d' ' -f1)"
nvme_copy $DISK --from /tmp/new || echo "nvme_copy --from failed"
bind $NVME --to uio_pci_generic --yes | shown UIO
echo "PB uio: $(driver $NVME) $(ls /dev/uio0)"
expect not-vfio "bound to uio_pci_generic\|not bound to vfio-pci" identify $DISK
bind $NVME --to none --yes > /dev/null && echo "PB none: $(driver $NVME)"
bind $NVME --to kernel --yes > /dev/null && echo "PB back: $(driver $NVME) $(cat /sys/bus/pci/devices/$NVME/driver_override)"
wait_for [ -b /dev/nvme0n1 ]
echo "PB linux-new: $(sha256sum < /dev/nvme0n1 | cut -d' ' -f1)"
# While vfio has one function of a group open, the kernel's own driver may not have the other.
vm_guest --hold 0000:00:05.0 10 > /tmp/hold 2>&1 &
wait_for grep -q holding /tmp/hold
expect half-way "05.1: no driver of the kernel took it: Invalid argument; 0000:00:05.1 is back with vfio-pci" \
  bind 0000:00:05.1 --to kernel --yes --force
echo "PB half-way-driver: $(driver 0000:00:05.1) $(cat /sys/bus/pci/devices/0000:00:05.1/driver_override)"
wait
"""

LISTED = r"""0000:00:04.0 \[1b36:0010\] NVMe controller
    driver       nvme
    IOMMU        group (\d+), DMA(-FQ)?
(    NUMA node .*
)?    FIRST +16 MiB
0000:00:05.0 \[1b36:0010\] NVMe controller
    driver       nvme
    IOMMU        group (\d+), DMA(-FQ)?, with 0000:00:05.1 \(nvme\)
(    NUMA node .*
)?    SECOND +8 MiB, mounted on /mnt
"""

DRY = r"""0000:00:04.0: from nvme to vfio-pci
  echo vfio-pci > /sys/bus/pci/devices/0000:00:04.0/driver_override
  echo 0000:00:04.0 > /sys/bus/pci/drivers/nvme/unbind
  echo 0000:00:04.0 > /sys/bus/pci/drivers_probe
nothing has been written: --yes does it
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
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        image = work / "disk.img"
        image.write_bytes(random.Random(3).randbytes(16 << 20))
        other = work / "other.img"
        other.write_bytes(bytes(8 << 20))
        before = vm.sha256(image)
        guest = vm.Guest(
            work, root, SCRIPT, [guest_binary, *programs],
            ["-machine", "q35,kernel-irqchip=split", "-device", "intel-iommu,intremap=on",
             "-drive", f"if=none,id=d0,file={image},format=raw",
             "-device", "nvme,serial=phasebit,drive=d0,addr=04.0",
             "-drive", f"if=none,id=d1,file={other},format=raw",
             "-drive", "if=none,id=d2,driver=null-co,size=1M",
             "-device", "nvme,serial=one,drive=d1,addr=05.0,multifunction=on",
             "-device", "nvme,serial=two,drive=d2,addr=05.1"],
            "intel_iommu=on", modules=["crc32c_generic", "ext4"])
        lines = guest.run(240)
        got = vm.results(lines)
        report.guest("examples", lines)
        report.check("bind lists the functions", re.search(LISTED, output(lines, "LIST")), output(lines, "LIST"))
        try:
            listed = {f["address"]: f for f in json.loads(output(lines, "JSON"))}
            kinds = [(f["kind"], f["driver"]) for f in listed.values()]
            report.check("bind --json prints the same", kinds == [("NVMe controller", "nvme")] * 3, kinds)
        except ValueError as e:
            report.check("bind --json prints the same", False, e)
        for name in ("mounted", "perf", "no-image", "held", "not-vfio", "half-way"):
            report.check(name, got.get(name) == "ok", got.get(name))
        for name, driver in (("pair", "vfio-pci vfio-pci"), ("dry", "nvme"), ("vfio", "vfio-pci"),
                             ("kernel", "nvme"), ("uio", "uio_pci_generic /dev/uio0"), ("none", "none"),
                             ("back", "nvme (null)"), ("half-way-driver", "vfio-pci vfio-pci")):
            report.check(f"bind, {name}: {driver}", got.get(name) == driver, got.get(name))
        report.check("the dry run prints the writes", output(lines, "DRY") == DRY, output(lines, "DRY"))
        report.check("bind warns that an IOMMU stops DMA through uio",
                     "without vfio the function's DMA will be stopped" in output(lines, "UIO"), output(lines, "UIO"))
        report.check("identify", re.search(r"^sn +: phasebit$", output(lines, "ID"), re.M)
                     and re.search(r"^nsze +: 0x8000$", output(lines, "ID"), re.M), output(lines, "ID"))
        report.check("nvme_perf --json", '"reads":300' in got.get("perf-json", ""), got.get("perf-json"))
        report.check("nvme_copy --to is the image", got.get("before") == before, got.get("before"))
        report.check("nvme_copy --to is what Linux reads", "copied" in got and
                     got["copied"] == got.get("linux-copied"), f"{got.get('copied')} {got.get('linux-copied')}")
        report.check("nvme_copy --from is what Linux reads", "new" in got and
                     got["new"] == got.get("linux-new"), f"{got.get('new')} {got.get('linux-new')}")
        report.check("and what is in the image", vm.sha256(image) == got.get("new"), got.get("new"))
        if report.failed:
            print(f"the console is in {report.keep_console(guest, 'examples')}")
            print("\n".join(lines[-120:]))
    report.end()


main()
