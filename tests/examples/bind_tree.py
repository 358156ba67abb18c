# SPDX-License-Identifier: BSL-1.0
"""A simulated /sys and /proc, and a thread that acts as the kernel: who writes to bind, unbind and
drivers_probe here (they are pipes) sees the driver's link come and go as on a real machine."""
import os
import select
import shutil
import threading
from pathlib import Path

NVME = 0x010802
KERNEL_DRIVERS = {0x0108: "nvme", 0x0200: "e1000e", 0x0100: "virtio-pci"}


class Tree:
    def __init__(self, folder, drivers=("nvme", "e1000e", "virtio-pci", "vfio-pci", "uio_pci_generic")):
        self.sys = folder / "sys"
        self.proc = folder / "proc"
        self.pci = self.sys / "bus/pci"
        self.refuses = set()  # of (driver, address)
        self.writes = []
        self.pipes = {}
        for path in ("bus/pci/devices", "class/block", "class/net", "kernel/iommu_groups"):
            (self.sys / path).mkdir(parents=True)
        (self.proc / "self").mkdir(parents=True)
        self.mounts = []
        self.mount("0:21", "/proc", "proc")
        (self.proc / "swaps").write_text("Filename\tType\tSize\tUsed\tPriority\n")
        self._pipe("drivers_probe")
        for name in drivers:
            (self.pci / "drivers" / name).mkdir(parents=True)
            self._pipe(f"drivers/{name}/bind")
            self._pipe(f"drivers/{name}/unbind")

    # What the machine is made of.

    def function(self, address, class_code=NVME, ids="1b36:0010", driver=None, group=None, behind=None,
                 **files):
        home = self.sys / "devices/pci0000:00" / (behind or "") / address
        home.mkdir(parents=True)
        vendor, device = ids.split(":")
        files = {"vendor": f"0x{vendor}", "device": f"0x{device}", "class": f"0x{class_code:06x}",
                 "driver_override": "(null)", "numa_node": "-1", "modalias": "pci:v00001B36", **files}
        for name, text in files.items():
            (home / name).write_text(f"{text}\n")
        link(self.pci / "devices" / address, home)
        if driver:
            link(home / "driver", self.pci / "drivers" / driver)
        if group is not None:
            number, kind = group
            at = self.sys / f"kernel/iommu_groups/{number}"
            (at / "devices").mkdir(parents=True, exist_ok=True)
            (at / "type").write_text(f"{kind}\n")
            link(home / "iommu_group", at)
            link(at / "devices" / address, home)
        return home

    def virtual(self, physical, index, address):
        link(self.device(physical) / f"virtfn{index}", self.device(address))
        link(self.device(address) / "physfn", self.device(physical))

    def block(self, home, name, numbers, sectors, part=False):
        at = home / name
        (at / "holders").mkdir(parents=True)
        (at / "dev").write_text(f"{numbers}\n")
        (at / "size").write_text(f"{sectors}\n")
        if part:
            (at / "partition").write_text("1\n")
        link(self.sys / "class/block" / name, at)
        return at

    def interface(self, home, name, flags):
        (home / "net" / name).mkdir(parents=True)
        (home / "net" / name / "flags").write_text(f"{flags:#x}\n")
        link(self.sys / "class/net" / name, home / "net" / name)

    def mount(self, numbers, place, source):
        self.mounts.append(f"{len(self.mounts) + 20} 1 {numbers} / {place} rw,noatime shared:1 - ext4 {source} rw")
        (self.proc / "self/mountinfo").write_text("\n".join(self.mounts) + "\n")

    def process(self, pid, program, *opened):
        (self.proc / str(pid) / "fd").mkdir(parents=True)
        (self.proc / str(pid) / "comm").write_text(f"{program}\n")
        for number, path in enumerate(opened, 3):
            os.symlink(path, self.proc / str(pid) / "fd" / str(number))

    # What came of it.

    def device(self, address):
        return (self.pci / "devices" / address).resolve()

    def driver(self, address):
        at = self.device(address) / "driver"
        return at.resolve().name if at.is_symlink() else None

    def override(self, address):
        return (self.device(address) / "driver_override").read_text().strip()

    def options(self):
        return ["--sysfs", self.sys, "--proc", self.proc]

    # The kernel.

    def __enter__(self):
        self.ended, self.end = os.pipe()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()
        return self

    def __exit__(self, *_):
        os.write(self.end, b".")
        self.thread.join()
        for fd in (self.ended, self.end, *self.pipes):
            os.close(fd)

    def _pipe(self, name):
        os.mkfifo(self.pci / name)
        self.pipes[os.open(self.pci / name, os.O_RDWR | os.O_NONBLOCK)] = name

    def _serve(self):
        while True:
            readable = select.select([*self.pipes, self.ended], [], [])[0]
            # Who unbinds, and then binds, has done so in this order.
            for fd in sorted(readable, key=lambda fd: not self.pipes.get(fd, "").endswith("/unbind")):
                if fd == self.ended:
                    return
                for address in os.read(fd, 4096).decode().split():
                    self.writes.append((self.pipes[fd], address))
                    self._obey(self.pipes[fd], address)

    def _obey(self, name, address):
        at = self.device(address)
        wanted = self.override(address).replace("(null)", "")
        own = KERNEL_DRIVERS.get(int((at / "class").read_text(), 16) >> 8)
        what = name.split("/")[-1]
        if what == "unbind":
            if self.driver(address) == name.split("/")[1]:
                (at / "driver").unlink()
            return
        driver = wanted or own
        if what == "bind" and driver != name.split("/")[1]:
            return
        if self.driver(address) is None and driver and (driver, address) not in self.refuses:
            if (self.pci / "drivers" / driver).exists():
                link(at / "driver", self.pci / "drivers" / driver)


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    os.symlink(os.path.relpath(target, path.parent), path)


def snapshot(folder):
    """Every name, link and text below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[path] = os.readlink(path)
        elif path.is_file():
            found[path] = path.read_text()
        else:
            found[path] = None
    return found


def replace_by_folder(path):
    """No write gets through here any more, not even root's."""
    path.unlink()
    path.mkdir()
    return path


def remove_driver(tree, name):
    shutil.rmtree(tree.pci / "drivers" / name)
