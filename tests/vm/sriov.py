#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Virtual functions made through /sys, each driven by its own process over vfio while the physical
function stays with Linux's nvme driver. Usage: sriov.py GUEST KEEP"""
import shutil
import sys
import tempfile
from pathlib import Path

import vm

SCRIPT = r"""
PF=0000:01:00.0
wait_for [ -c /dev/nvme0 ]
echo "PB driver: $(basename $(readlink /sys/bus/pci/devices/$PF/driver))"
if vm_guest --make-vfs $PF 2 /dev/nvme0 > /tmp/vfs; then echo "PB made: ok"; else cat /tmp/vfs; fi
n=0
for vf in $(cat /tmp/vfs); do
  give $vf vfio-pci
  echo "PB group$n: $(basename $(readlink /sys/bus/pci/devices/$vf/iommu_group))"
  timeout 100 vm_guest --use-vf $vf $((2048 + 4096 * n)) 256 $((n + 5)) /tmp/wrote$n > /tmp/out$n 2>&1 &
  eval pid$n=$!
  n=$((n + 1))
done
wait $pid0 && echo "PB first: ok"
wait $pid1 && echo "PB second: ok"
cat /tmp/out0 /tmp/out1
echo "PB ids: $(cat /tmp/out0 /tmp/out1 | tr '\n' ' ')"
# What Linux reads through the physical function is what the virtual ones wrote.
wait_for [ -b /dev/nvme0n1 ]
for n in 0 1; do
  dd if=/dev/nvme0n1 of=/tmp/read$n bs=512 skip=$((2048 + 4096 * n)) count=256 2> /dev/null
  cmp /tmp/read$n /tmp/wrote$n && echo "PB seen$n: ok"
done
echo 0 > /sys/bus/pci/devices/$PF/sriov_numvfs
echo "PB left: $(ls -d /sys/bus/pci/devices/$PF/virtfn* 2> /dev/null | wc -l)"
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
        image.write_bytes(bytes(16 << 20))
        guest = vm.Guest(
            work, root, SCRIPT, [guest_binary],
            ["-machine", "q35,kernel-irqchip=split", "-device", "intel-iommu,intremap=on",
             "-device", "pcie-root-port,id=rp0,slot=1,addr=04.0", "-device", "nvme-subsys,id=ss",
             "-device", "nvme,serial=phasebit,subsys=ss,id=n0,bus=rp0,sriov_max_vfs=4,sriov_vq_flexible=8,"
                        "sriov_vi_flexible=4,max_ioqpairs=12,msix_qsize=9",
             "-drive", f"if=none,id=d0,file={image},format=raw", "-device", "nvme-ns,drive=d0,bus=n0"],
            "intel_iommu=on")
        lines = guest.run(200)
        got = vm.results(lines)
        report.guest("sriov", lines)
        report.check("the physical function stays with nvme", got.get("driver") == "nvme", got.get("driver"))
        for name in ("made", "first", "second", "seen0", "seen1"):
            report.check(name, got.get(name) == "ok", got.get(name))
        report.check("each virtual function is in a group of its own",
                     got.get("group0", "") != got.get("group1", ""), got.get("group0"))
        report.check("each is a controller of its own", len(set(got.get("ids", "").split())) == 3, got.get("ids"))
        report.check("all are switched off again", got.get("left") == "0", got.get("left"))
        if report.failed:
            print(f"the console is in {report.keep_console(guest, 'sriov')}")
            print("\n".join(lines[-80:]))
    report.end()


main()
