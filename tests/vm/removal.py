#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""A device pulled out under backend::vfio, asked for first and not. Usage: removal.py GUEST KEEP

GUEST is built with AddressSanitizer: nothing is freed twice, nor used after it went.
"""
import random
import shutil
import sys
import tempfile
from pathlib import Path

import vm

SCRIPT = r"""
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=halt_on_error=1
find_behind() { # ROOT-PORT: the controller behind it
  for d in /sys/bus/pci/devices/*; do
    [ "$(cat $d/class)" = 0x010802 ] && [ "$(basename $(dirname $(readlink -f $d)))" = $1 ] && basename $d
  done
}
gone() { [ ! -e /sys/bus/pci/devices/$1 ]; }
FIRST=$(find_behind 0000:00:04.0)
SECOND=$(find_behind 0000:00:05.0)
give $FIRST vfio-pci
give $SECOND vfio-pci
case_of hot-reset vm_guest --hot-reset $FIRST
# Asked for: the host sees PB-RUNNING, and takes the device away.
timeout 100 vm_guest --removal $FIRST && echo "PB removal: ok"
wait_for gone $FIRST && echo "PB removal-gone: ok"
# By surprise: the slot loses its power.
timeout 300 vm_guest --surprise-removal $SECOND > /tmp/out 2>&1 &
pid=$!
wait_for grep -q PB-RUNNING /tmp/out
vm_guest --power-off 0000:00:05.0 > /dev/null
wait $pid && echo "PB surprise: ok"
grep -v PB-RUNNING /tmp/out
# What is asked here is what we say of a device that is gone. That the kernel waits a minute for one that
# it resets, when it is opened as when it is closed, is seen above once.
echo > /sys/bus/pci/devices/$SECOND/reset_method
expect afterwards "does not answer: it was pulled out" vm_guest --identify $SECOND
"""


def main():
    guest_binary, keep = sys.argv[1:3]
    if shutil.which("qemu-system-x86_64") is None:
        vm.skip("qemu-system-x86_64 is not installed")
    root = vm.kernel()
    report = vm.Report(keep)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        devices = []
        for i in (0, 1):
            image = work / f"disk{i}.img"
            image.write_bytes(random.Random(i).randbytes(4 << 20))
            # Slow, so that commands are in flight when the device goes.
            devices += ["-drive", f"if=none,id=d{i},file={image},format=raw,throttling.iops-total=100",
                        "-device", f"pcie-root-port,id=rp{i},slot={i + 1},chassis={i + 1},addr=0{i + 4}.0",
                        "-device", f"nvme,serial=phasebit{i},drive=d{i},bus=rp{i},id=n{i}"]
        guest = vm.Guest(
            work, root, SCRIPT, [guest_binary],
            ["-machine", "q35,kernel-irqchip=split", "-device", "intel-iommu,intremap=on",
             "-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off", *devices],
            "intel_iommu=on")
        asked = []

        def on_line(line):
            if "PB-RUNNING" in line and not asked:
                asked.append(guest.qmp("device_del", id="n0"))

        lines = guest.run(540, on_line)
        got = vm.results(lines)
        report.guest("removal", lines)
        report.check("QEMU was asked to take the device", asked and "return" in asked[0], asked)
        for name in ("hot-reset", "removal", "removal-gone", "surprise", "afterwards"):
            report.check(name, got.get(name) == "ok", got.get(name))
        reports = [line for line in lines if "AddressSanitizer" in line or "runtime error" in line]
        report.check("AddressSanitizer reports nothing", not reports, reports)
        if report.failed:
            print(f"the console is in {report.keep_console(guest, 'removal')}")
            print("\n".join(lines[-80:]))
    report.end()


main()
