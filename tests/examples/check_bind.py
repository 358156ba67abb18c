#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""`bind` on a simulated machine. Usage: check_bind.py GROUP FOLDER_OF_PROGRAMS"""
import json
import os
import sys
import tempfile
from pathlib import Path

import bind_tree
from check import bad, good
from bind_tree import Tree

PF, VF1, VF2 = "0000:01:00.0", "0000:01:00.1", "0000:01:00.2"
BUSY, NIC, IDLE, VIRTIO, BRIDGE = ("0000:02:00.0", "0000:02:00.1", "0000:03:00.0", "0000:04:00.0",
                                   "0000:00:00.0")
LONE, PATHS, VMD = "0000:05:00.0", "0000:06:00.0", "10000:e1:00.0"


def machine(folder, **more):
    t = Tree(folder, **more)
    t.function(BRIDGE, 0x060400, "8086:29c0")
    t.function(PF, driver="nvme", group=(3, "DMA-FQ"), behind="0000:00:01.0", numa_node=1,
               sriov_totalvfs=4, sriov_numvfs=2)
    t.function(VF1, driver="vfio-pci", group=(4, "DMA-FQ"), driver_override="vfio-pci")
    t.function(VF2, group=(5, "DMA-FQ"))
    t.virtual(PF, 0, VF1)
    t.virtual(PF, 1, VF2)
    home = t.function(BUSY, ids="144d:a808", driver="nvme", group=(6, "identity"))
    disk = t.block(home / "nvme/nvme1", "nvme1n1", "259:0", 32768)
    t.block(disk, "nvme1n1p1", "259:1", 16384, part=True)
    t.block(disk, "nvme1n1p2", "259:2", 8192, part=True)
    t.mount("259:1", r"/mnt/my\040disk", "/dev/nvme1n1p1")
    (t.proc / "swaps").write_text("Filename Type\n/dev/nvme1n1p2 partition 1 0 -2\n")
    home = t.function(NIC, 0x020000, "8086:10d3", driver="e1000e", group=(6, "identity"))
    t.interface(home, "enp2s0", 0x1003)
    home = t.function(IDLE, driver="nvme", group=(7, "DMA"))
    t.block(home / "nvme/nvme3", "nvme3n1", "259:6", 2048)
    home = t.function(VIRTIO, 0x010000, "1af4:1042", driver="virtio-pci", group=(8, "DMA"))
    at = t.block(home / "virtio0/block", "vda", "254:0", 4096)
    (at / "holders/dm-0").mkdir()
    t.function(LONE, driver="nvme")
    # A namespace with two paths: what is mounted belongs to no function's folder.
    home = t.function(PATHS, driver="nvme", group=(9, "DMA"))
    t.block(home / "nvme/nvme2", "nvme2c2n1", "259:8", 64)
    at = t.block(t.sys / "devices/virtual/nvme-subsystem/nvme-subsys2", "nvme2n1", "259:9", 64)
    t.block(at, "nvme2n1p1", "259:10", 32, part=True)
    t.mount("0:77", "/btrfs", "/dev/nvme2n1p1")
    t.function(VMD, driver="nvme", group=(10, "DMA"))
    return t


def listed(programs, t, *line):
    return {f["address"]: f for f in json.loads(good(programs, "bind", *t.options(), "--json", *line))}


def listing(programs, folder):
    t = machine(folder)
    t.process(77, "fio", "/dev/nvme3n1", "/dev/nvme3n1", "/dev/null")
    text = good(programs, "bind", *t.options())
    for part in (f"{PF} [1b36:0010] NVMe controller\n    driver       nvme\n"
                 "    IOMMU        group 3, DMA-FQ\n    NUMA node    1\n"
                 "    SR-IOV       2 of 4 virtual functions on\n",
                 f"{VF1} [1b36:0010] NVMe controller\n    driver       vfio-pci (driver_override vfio-pci)\n"
                 f"    IOMMU        group 4, DMA-FQ\n    SR-IOV       virtual function 0 of {PF}\n",
                 "    driver       none\n", f"virtual function 1 of {PF}\n",
                 f"    IOMMU        group 6, identity, with {NIC} (e1000e)\n",
                 "    nvme1n1      16 MiB\n", "      nvme1n1p1  8 MiB, mounted on /mnt/my disk\n",
                 "      nvme1n1p2  4 MiB, swap space\n", f"{VIRTIO} [1af4:1042] virtio block device\n",
                 "    vda          2 MiB, part of dm-0\n", "    IOMMU        off, or not for this function\n",
                 "      nvme2n1p1  16 KiB, mounted on /btrfs\n", f"{VMD} [",
                 "    open         /dev/nvme3n1 in process 77 (fio)\n"):
        assert part in text, f"{part!r} is not in:\n{text}"
    for part in (BRIDGE, NIC + " [", "nvme2c2n1"):
        assert part not in text, f"{part!r} is in:\n{text}"
    assert text.count("process 77") == 1, text

    everything = listed(programs, t, "--all")
    assert set(everything) == {BRIDGE, PF, VF1, VF2, BUSY, NIC, IDLE, VIRTIO, LONE, PATHS, VMD}
    assert everything[NIC]["interfaces"] == [{"name": "enp2s0", "up": True}], everything[NIC]
    assert everything[BRIDGE]["kind"] == "PCI bridge" and everything[BRIDGE]["driver"] is None
    assert set(listed(programs, t, "--class", "virtio")) == {VIRTIO}
    assert set(listed(programs, t, "--class", "02")) == {NIC}
    assert VIRTIO not in listed(programs, t, "--class", "nvme")
    assert set(listed(programs, t, "02:00.1", VIRTIO, NIC)) == {NIC, VIRTIO}
    busy = listed(programs, t, BUSY)[BUSY]
    assert busy["iommu_group"] == {"number": "6", "type": "identity",
                                   "others": [{"address": NIC, "driver": "e1000e"}]}, busy
    assert busy["disks"][1] == {"name": "nvme1n1p1", "bytes": 8 << 20, "part": True, "mounts":
                                ["/mnt/my disk"], "holders": [], "swap": False}, busy
    assert busy["in_use"] == ["nvme1n1p1 is mounted on /mnt/my disk", "nvme1n1p2 is swap space"], busy
    assert everything[PF]["sriov"] == {"on": 2, "total": 4}
    assert everything[VF2]["sriov"] == {"physical_function": PF, "index": 1}
    os.environ["PHASEBIT_SYSFS"] = str(t.sys)
    assert VMD in good(programs, "bind")
    del os.environ["PHASEBIT_SYSFS"]
    empty = Tree(folder / "empty")
    assert good(programs, "bind", *empty.options()).startswith("no NVMe or virtio function")
    assert listed(programs, empty) == {}


def dry_run(programs, folder):
    with machine(folder) as t:
        before = bind_tree.snapshot(folder)
        text = good(programs, "bind", *t.options(), IDLE, "--to", "vfio-pci")
        assert text == (f"{IDLE}: from nvme to vfio-pci\n"
                        f"  echo vfio-pci > {t.pci}/devices/{IDLE}/driver_override\n"
                        f"  echo {IDLE} > {t.pci}/drivers/nvme/unbind\n"
                        f"  echo {IDLE} > {t.pci}/drivers_probe\n"
                        "nothing has been written: --yes does it\n"), text
        text = good(programs, "bind", *t.options(), VF1, "--to", "kernel")
        assert text == (f"{VF1}: from vfio-pci to the kernel's own driver\n"
                        f"  echo > {t.pci}/devices/{VF1}/driver_override\n"
                        f"  echo {VF1} > {t.pci}/drivers/vfio-pci/unbind\n"
                        f"  echo {VF1} > {t.pci}/drivers_probe\n"
                        "nothing has been written: --yes does it\n"), text
        text = good(programs, "bind", *t.options(), IDLE, "--to", "uio_pci_generic")
        assert "note: IOMMU group 7 is of type DMA: " in text and "iommu=pt" in text, text
        text = good(programs, "bind", *t.options(), BUSY, "--to", "vfio-pci", "--force")
        assert f"note: vfio gives out whole IOMMU groups, and group 6 has also {NIC} (e1000e)\n" in text, text
        assert "note: forced, though nvme1n1p1 is mounted" in text, text
        (plan,) = json.loads(good(programs, "bind", *t.options(), IDLE, "--to", "none", "--json"))
        assert plan["writes"] == [{"path": f"{t.pci}/drivers/nvme/unbind", "text": IDLE}], plan
        assert plan["done"] is False and plan["driver"] == "nvme", plan
        assert f"{IDLE}: is with nvme already\n" == good(programs, "bind", *t.options(), IDLE, "--to", "kernel")
        assert before == bind_tree.snapshot(folder) and t.writes == [], t.writes


def writes(programs, folder):
    with machine(folder) as t:
        text = good(programs, "bind", *t.options(), IDLE, "--to", "vfio-pci", "--yes")
        assert text.endswith(f"{IDLE}: is with vfio-pci now\n"), text
        assert t.driver(IDLE) == "vfio-pci" and t.override(IDLE) == "vfio-pci"
        assert t.writes == [("drivers/nvme/unbind", IDLE), ("drivers_probe", IDLE)], t.writes
        good(programs, "bind", *t.options(), IDLE, "--to", "vfio-pci", "--yes")
        assert len(t.writes) == 2, t.writes
        good(programs, "bind", *t.options(), IDLE, "--to", "uio_pci_generic", "-y")
        assert t.driver(IDLE) == "uio_pci_generic" and t.override(IDLE) == "uio_pci_generic"
        good(programs, "bind", *t.options(), IDLE, "--to", "kernel", "-y")
        assert t.driver(IDLE) == "nvme" and t.override(IDLE) == ""
        good(programs, "bind", *t.options(), IDLE, "--to", "none", "-y")
        assert t.driver(IDLE) is None
        (done,) = json.loads(good(programs, "bind", *t.options(), IDLE, "--to", "kernel", "-y", "--json"))
        assert done["done"] is True and done["driver"] == "nvme" and done["driver_before"] is None, done
        # Several at once; one that has no driver.
        good(programs, "bind", *t.options(), VF2, IDLE, "--to", "vfio-pci", "-y")
        assert t.driver(VF2) == t.driver(IDLE) == "vfio-pci"
        # In use, and taken all the same.
        good(programs, "bind", *t.options(), BUSY, "--to", "uio_pci_generic", "-y", "--force")
        assert t.driver(BUSY) == "uio_pci_generic"


def half_way(programs, folder):
    with machine(folder) as t:
        def same(*addresses):
            for address, driver, override in before:
                if address in addresses:
                    got = t.driver(address), t.override(address).replace("(null)", "")
                    assert got == (driver, override), (address, got)

        before = [(a, t.driver(a), t.override(a).replace("(null)", "")) for a in (IDLE, VF1, VF2, BUSY)]
        t.refuses = {("vfio-pci", IDLE)}
        bad(programs, f"{IDLE}: vfio-pci did not take it: see dmesg; {IDLE} is back with nvme$",
            "bind", *t.options(), IDLE, "--to", "vfio-pci", "-y", "--json")
        same(IDLE)
        assert ("drivers/nvme/bind", IDLE) in t.writes, t.writes
        # All that one call has done is taken back.
        bad(programs, f"{IDLE} is back with nvme; {VF2} is back with no driver$", "bind", *t.options(), VF2,
            IDLE, "--to", "vfio-pci", "-y", "--json")
        same(IDLE, VF2)
        # The kernel has no driver of its own for it, or one that refuses it.
        t.refuses = {("nvme", VF1)}
        bad(programs, f"{VF1}: no driver of the kernel took it: modprobe pci:v00001B36; {VF1} is back with "
            "vfio-pci$", "bind", *t.options(), VF1, "--to", "kernel", "-y", "--json")
        same(VF1)
        # The old driver does not take it again either: the message names its driver now.
        t.refuses = {("vfio-pci", IDLE), ("nvme", IDLE)}
        bad(programs, f"{IDLE} had nvme and is now with no driver$", "bind", *t.options(), IDLE, "--to",
            "vfio-pci", "-y", "--json")
        assert t.override(IDLE) == ""
        # A write that the kernel does not take.
        bind_tree.replace_by_folder(t.pci / "drivers/vfio-pci/unbind")
        bad(programs, f"drivers/vfio-pci/unbind: cannot be written: Is a directory; {VF1} is back with "
            "vfio-pci$", "bind", *t.options(), VF1, "--to", "uio_pci_generic", "-y", "--json")
        same(VF1)


def in_use(programs, folder):
    with machine(folder) as t:
        t.process(4321, "qemu", "/dev/vfio/4")
        t.process(99, "dd", "/dev/nvme3n1")
        before = bind_tree.snapshot(folder)
        for address, why in ((BUSY, "nvme1n1p1 is mounted on /mnt/my disk, nvme1n1p2 is swap space"),
                             (VIRTIO, "vda is part of dm-0"), (NIC, "enp2s0 is up"),
                             (PATHS, "nvme2n1p1 is mounted on /btrfs"),
                             (PF, "2 of its virtual functions are on"),
                             (VF1, r"/dev/vfio/4 is open in process 4321 \(qemu\)"),
                             (IDLE, r"/dev/nvme3n1 is open in process 99 \(dd\)")):
            for more in ([], ["--yes"]):
                bad(programs, f"{address}: is in use: {why} .--force ", "bind", *t.options(), address, "--to",
                    "none", *more)
        # Of several, one in use keeps all where they are.
        bad(programs, "is in use", "bind", *t.options(), VF2, BUSY, "--to", "vfio-pci", "-y")
        assert before == bind_tree.snapshot(folder) and t.writes == [], t.writes


def mistakes(programs, folder):
    with machine(folder, drivers=("nvme", "e1000e", "virtio-pci", "vfio-pci")) as t:
        before = bind_tree.snapshot(folder)
        o = t.options()
        bad(programs, "0000:77:00.0: there is no such PCI function", "bind", *o, "0000:77:00.0")
        bad(programs, "77:00.0: there is no such PCI function", "bind", *o, "77:00.0", "--to", "none", "-y")
        bad(programs, "nonsense: is no PCI address", "bind", *o, "nonsense")
        bad(programs, r"\.\./drivers: is no PCI address", "bind", *o, "../drivers")
        bad(programs, "--to requires functions", "bind", *o, "--to", "vfio-pci", "-y")
        bad(programs, f"{LONE}: has no IOMMU group.*intel_iommu=on", "bind", *o, LONE, "--to", "vfio-pci", "-y")
        bad(programs, f"{BRIDGE}: is a bridge", "bind", *o, BRIDGE, "--to", "vfio-pci", "-y")
        bad(programs, "uio_pci_generic: the driver is not loaded: modprobe uio_pci_generic", "bind", *o, LONE,
            "--to", "uio_pci_generic", "-y")
        assert "  modprobe uio_pci_generic\n" in good(programs, "bind", *o, LONE, "--to", "uio_pci_generic")
        bad(programs, "--to", "bind", *o, LONE, "--to", "e1000e", status=2)
        bad(programs, "--class", "bind", *o, "--class", "disks", status=2)
        bad(programs, "nowhere/bus/pci/devices: is not there", "bind", "--sysfs", folder / "nowhere")
        assert before == bind_tree.snapshot(folder) and t.writes == [], t.writes
    # vfio without an IOMMU, for who has asked the kernel for it.
    (t.sys / "module/vfio/parameters").mkdir(parents=True)
    (t.sys / "module/vfio/parameters/enable_unsafe_noiommu_mode").write_text("Y\n")
    assert "to vfio-pci" in good(programs, "bind", *o, LONE, "--to", "vfio-pci")


GROUPS = {"listing": listing, "dry_run": dry_run, "writes": writes, "half_way": half_way, "in_use": in_use,
          "mistakes": mistakes}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="phasebit-bind-") as scratch:
        GROUPS[sys.argv[1]](Path(sys.argv[2]).resolve(), Path(scratch).resolve())
