#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Designs of one's own on a real kernel: fpga_queue in the guest against engines that play the FPGA on
the host, both ends of ivshmem's BAR; QEMU's edu by /sys, uio and vfio.
Usage: fpga.py FPGA_QUEUE KEEP, the program edu being in the same folder"""
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import vm

SCRIPT = r"""
FPGA="fpga_queue host --backend mmio --device 0000:00:04.0"
EDU=0000:00:05.0
SMALL=0000:00:06.0
driver() { basename $(readlink /sys/bus/pci/devices/$1/driver || echo none); }
engine() { # FAULT AFTER: asks the host for another engine, and waits until it is there
  echo "PB-ENGINE $1 $2"
  wait_for $FPGA --show --timeout 0.5 > /dev/null 2>&1
}
echo "PB group-type: $(cat /sys/bus/pci/devices/$EDU/iommu_group/type)"
# The engine that the host began with.
$FPGA --show | head -2
case_of verify $FPGA --verify --count 3000
case_of deep $FPGA --verify --qd 1000 --bs 512 --count 4000
case_of large $FPGA --verify --qd 4 --bs 1M --count 24
echo "PB perf: $($FPGA --time 2 --json | tr -d '\n ')"
expect too-deep "more than the engine.s DRAM has free" $FPGA --bs 1M --qd 100
expect one-at-a-time "another process uses the function" sh -c "
  $FPGA --time 20 > /dev/null & pid=\$!; sleep 2; $FPGA --show; status=\$?; kill \$pid; wait; exit \$status"
case_of after-kill $FPGA --verify --count 500
engine unknown-id 40
expect unknown-id "completed a command that is not in flight" $FPGA --count 1000 --timeout 5
engine silent 40
expect silent "not answered in time, though the engine's heartbeat goes on" $FPGA --count 1000 --timeout 2
engine phase 40
expect phase "not answered in time, though the engine's heartbeat goes on" $FPGA --count 1000 --timeout 2
engine gone 40
expect gone "the engine is gone: its registers read as ones" $FPGA --count 1000 --timeout 5
engine none 0
# The host kills it when it reads this, in the middle of the work.
$FPGA --time 60 --timeout 3 > /tmp/out 2>&1 &
pid=$!
sleep 2
echo "PB-ENGINE kill 0"
wait $pid; echo "PB killed: $? $(cat /tmp/out)"
engine none 0
case_of again $FPGA --verify --count 500
expect no-bar "no such BAR" $FPGA --bar 1 --show
expect other-bar "the BAR is too small for these registers" $FPGA --bar 0 --show
expect no-function "there is no such PCI function" fpga_queue host --backend mmio --device 0000:77:00.0
give 0000:00:04.0 vfio-pci
case_of by-vfio fpga_queue host --backend vfio --device 0000:00:04.0 --verify --count 3000
expect by-vfio-no-bar "no such BAR" fpga_queue host --backend vfio --device 0000:00:04.0 --bar 1

# edu: registers without memory for DMA, then with huge pages, then its interrupt by uio and vfio.
case_of edu-registers edu --backend mmio --device $EDU --no-dma
expect edu-pages "no huge pages are free" edu --backend mmio --device $EDU
echo 8 > /proc/sys/vm/nr_hugepages
echo "PB edu-mmio: $(edu --backend mmio --device $EDU --dma-mask 4294967295 2>&1 | tr '\n' ' ')"
expect edu-other "is no edu device" edu --backend mmio --device 0000:00:07.0
give $EDU uio_pci_generic
echo "PB edu-uio-driver: $(driver $EDU)"
echo "PB edu-uio: $(edu --backend mmio --device $EDU --dma-mask 4294967295 2>&1 | tr '\n' ' ')"
give $SMALL vfio-pci
echo "PB edu-vfio-driver: $(driver $SMALL)"
echo "PB edu-vfio: $(edu --backend vfio --device $SMALL 2>&1 | tr '\n' ' ')"
expect edu-vfio-mmio "a driver of the kernel's uses the function" edu --backend mmio --device $SMALL
"""

BAR_BYTES = 16 << 20


class Engines:
    """One process at a time that plays the FPGA, ended by its pid; each bounds its own time too."""

    def __init__(self, program, memory):
        self.command = [program, "engine", "--memory", str(memory), "--size", str(BAR_BYTES), "--time", "400"]
        self.process = None

    def start(self, fault, after):
        self.stop()
        self.process = subprocess.Popen([*self.command, "--fault", fault, "--after", after],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        return self.process.stdout.readline()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process.stdout.close()
        self.process = None

    def on_line(self, line):
        if asked := re.search(r"^PB-ENGINE ([\w-]+) (\d+)", line):
            if asked.group(1) == "kill":
                self.kill()
            else:
                self.start(*asked.groups())


def main():
    program, keep = sys.argv[1:3]
    if shutil.which("qemu-system-x86_64") is None:
        vm.skip("qemu-system-x86_64 is not installed")
    root = vm.kernel()
    report = vm.Report(keep)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        memory = work / "bar.mem"
        engines = Engines(program, memory)
        output = engines.start("none", "0")
        report.check("the engine is there", "played by process" in output, output)
        guest = vm.Guest(
            work, root, SCRIPT, [program, Path(program).with_name("edu")],
            ["-machine", "q35,kernel-irqchip=split", "-device", "intel-iommu,intremap=on",
             "-object", f"memory-backend-file,id=fpga,share=on,size={BAR_BYTES},mem-path={memory}",
             "-device", "ivshmem-plain,memdev=fpga,addr=04.0",
             "-device", "edu,addr=05.0,dma_mask=4294967295", "-device", "edu,addr=06.0",
             "-device", "pci-testdev,addr=07.0"],
            "intel_iommu=on iommu=pt")
        try:
            lines = guest.run(300, engines.on_line)
        finally:
            engines.stop()
        got = vm.results(lines)
        report.guest("fpga", lines)
        for name in ("verify", "deep", "large", "too-deep", "one-at-a-time", "after-kill", "unknown-id",
                     "silent", "phase", "gone", "again", "no-bar", "other-bar", "no-function", "by-vfio", "by-vfio-no-bar",
                     "edu-registers", "edu-pages", "edu-other", "edu-vfio-mmio"):
            report.check(name, got.get(name) == "ok", got.get(name))
        report.check("perf", re.search(r'"commands":[1-9]', got.get("perf", "")), got.get("perf"))
        report.check("an engine that is killed in the middle is distinguished from a slow one",
                     re.match("1 .*stands still: its heartbeat does not move", got.get("killed", "")),
                     got.get("killed"))
        report.check("edu's functions see physical addresses", got.get("group-type") == "identity",
                     got.get("group-type"))
        moved = r"edu 1\.0.*back at 0x[0-9a-f]+: each byte is right.*interrupts  "
        for name, interrupts in (("edu-mmio", "not received here"), ("edu-uio", "two came"),
                                 ("edu-vfio", "two came")):
            report.check(name, re.search(moved + interrupts, got.get(name, "")), got.get(name))
        for name, driver in (("edu-uio-driver", "uio_pci_generic"), ("edu-vfio-driver", "vfio-pci")):
            report.check(name, got.get(name) == driver, got.get(name))
        if report.failed:
            print(f"the console is in {report.keep_console(guest, 'fpga')}")
            print("\n".join(lines[-80:]))
    report.end()


main()
