#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""A stock Linux guest on an NVMe disk that examples/nvme_target serves over vfio-user: identity, a file
system with checksums, the image on the host afterwards. Firmware boots from it, too. Usage: vfio_user.py KEEP NVME_TARGET"""
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import vm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interop"))
import newer_qemu  # noqa: E402

SCRIPT = r"""
wait_for [ -b /dev/nvme0n1 ]
for name in model serial; do echo "PB $name: $(cat /sys/class/nvme/nvme0/$name)"; done
echo "PB sectors: $(cat /sys/block/nvme0n1/size)"
echo "PB queues: $(ls /sys/block/nvme0n1/mq | wc -l)"
echo "PB driver: $(basename $(readlink /sys/class/nvme/nvme0/device/driver))"
mke2fs /dev/nvme0n1 > /dev/null 2>&1 && mount -t ext4 /dev/nvme0n1 /mnt && echo "PB mounted: ok"
head -c 4194304 /dev/urandom > /tmp/seed
for i in $(seq FILES); do { cat /tmp/seed; echo file $i; } > /mnt/file$i; done
sync && echo 3 > /proc/sys/vm/drop_caches
for i in $(seq FILES); do
  want=$({ cat /tmp/seed; echo file $i; } | sha256sum)
  [ "$(sha256sum < /mnt/file$i)" = "$want" ] && good="$good."
done
echo "PB checksums: ${#good}"
rm /mnt/file1 && fstrim /mnt && echo "PB trim: ok"
# A controller reset: the driver sets everything up again, on the same disk.
echo 1 > /sys/class/nvme/nvme0/reset_controller && echo "PB reset: ok"
echo 3 > /proc/sys/vm/drop_caches
echo "PB file2: $(sha256sum < /mnt/file2 | cut -d' ' -f1)"
umount /mnt && echo "PB unmounted: ok"
dmesg | grep -i "i/o error\|blk_update\|ext4-fs error\|timed out\|timeout\|nvme.*fail" | sed 's/^/PB-ERROR /'
echo "PB interrupts: $(grep -c nvme /proc/interrupts)"
echo "PB device: $(sha256sum < /dev/nvme0n1 | cut -d' ' -f1)"
"""


def check_guest(report, work, root, qemu, program, shared):
    """One boot. Without shared memory all DMA goes by messages, and so do the doorbells."""
    name = "shared" if shared else "messages"
    files, mib = (30, 160) if shared else (2, 32)
    image = work / f"{name}.img"
    with open(image, "wb") as f:
        f.truncate(mib << 20)
    path = work / f"{name}.sock"
    server = subprocess.Popen([program, "--socket", str(path), "--disk",
                               f"{'file' if shared else 'uring'}:{image}", "--queues", "4",
                               "--serial", "VFU-4711", "--verbose",
                               *([] if shared else ["--trap-doorbells"])], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, text=True)
    try:
        for _ in range(200):
            if path.exists():
                break
            time.sleep(0.05)
        memory = "memory-backend-memfd,id=m,size=768M,share=on" if shared else "memory-backend-ram,id=m,size=768M"
        guest = vm.Guest(
            work, root, SCRIPT.replace("FILES", str(files)), [],
            ["-machine", "q35,memory-backend=m", "-object", memory,
             "-device", '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"%s"}}' % path],
            "no_timer_check", modules=["crc32c_generic", "ext4"])
        guest.command[0] = str(qemu)
        lines = guest.run(260)
    finally:
        server.terminate()
        output = server.communicate(timeout=60)[0]
    got = vm.results(lines)
    report.guest(name, lines)
    expected = {"model": "phasebit nvme_target", "serial": "VFU-4711", "sectors": str((mib << 20) // 512),
                "driver": "nvme", "mounted": "ok", "checksums": str(files), "trim": "ok", "reset": "ok",
                "unmounted": "ok", "device": vm.sha256(image)}
    for key, value in expected.items():
        report.check(f"{name}: {key}", got.get(key) == value, got.get(key))
    report.check(f"{name}: file2 is there after a reset", len(got.get("file2", "")) == 64, got.get("file2"))
    errors = [line for line in lines if line.startswith("PB-ERROR")]
    report.check(f"{name}: the kernel has seen no error of the disk", not errors, errors)
    report.check(f"{name}: the server ended cleanly and removed its socket",
                 server.returncode == 0 and not path.exists(), server.returncode)
    moved = [line for line in output.splitlines() if "message-dma" in line]
    by_message = moved and "message-dma 0 " not in moved[-1]
    report.check(f"{name}: DMA went {'to shared memory' if shared else 'by messages'}",
                 bool(moved) and bool(by_message) != shared, output[-300:])
    fsck = shutil.which("e2fsck") or "/sbin/e2fsck"
    if Path(fsck).exists():
        done = subprocess.run([fsck, "-fn", str(image)], capture_output=True, text=True, check=False)
        report.check(f"{name}: e2fsck finds a clean file system", done.returncode == 0, done.stdout[-500:])
    debugfs = shutil.which("debugfs") or "/sbin/debugfs"
    if Path(debugfs).exists():
        out = work / "file2"
        subprocess.run([debugfs, "-R", f"dump /file2 {out}", str(image)], capture_output=True, check=False)
        report.check(f"{name}: the host reads the file that the guest wrote",
                     out.exists() and vm.sha256(out) == got.get("file2"), got.get("file2"))
    if report.failed:
        print(f"the console is in {report.keep_console(guest, f'vfio_user_{name}')}")
        print(output[-2000:])
        print("\n".join(lines[-60:]))


def check_firmware(report, work, qemu, program):
    """SeaBIOS, another driver than Linux's, boots from the disk: a sector that prints to the serial port and
    ends QEMU."""
    text = b"booted over vfio-user"
    # cld; xor ax, ax; mov ds, ax; mov si, 7c1ah; mov dx, 3f8h; each byte to the port until a zero; out f4h, al
    code = bytes.fromhex("fc31c08ed8be1a7cbaf803ac84c07403eeebf8b000e6f4f4ebfd") + text + b"\0"
    image = work / "boot.img"
    image.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa" + bytes((1 << 20) - 512))
    path = work / "boot.sock"
    server = subprocess.Popen([program, "--socket", str(path), "--disk", f"file:{image}", "--read-only"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            if path.exists():
                break
            time.sleep(0.05)
        done = subprocess.run(
            [qemu, "-accel", "tcg", "-M", "q35,memory-backend=m", "-m", "64M", "-nodefaults", "-display", "none",
             "-no-reboot", "-object", "memory-backend-memfd,id=m,size=64M,share=on", "-serial", "stdio",
             "-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-device",
             '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"%s"},"bootindex":0}' % path],
            capture_output=True, stdin=subprocess.DEVNULL, timeout=100, check=False)
        report.check("firmware: SeaBIOS boots from the disk", text in done.stdout,
                     (done.stdout[-200:], done.stderr[-500:]))
    except subprocess.TimeoutExpired as e:
        report.check("firmware: SeaBIOS boots from the disk", False, (e.stdout, e.stderr))
    finally:
        server.terminate()
        report.check("firmware: the server ends cleanly", server.wait(timeout=60) == 0, server.returncode)


def main():
    keep, program = sys.argv[1:3]
    qemu = newer_qemu.main("qemu-system-x86_64", 11)
    root = vm.kernel()
    report = vm.Report(keep)
    with tempfile.TemporaryDirectory() as folder:
        check_firmware(report, Path(folder), qemu, program)
        for shared in (True, False):
            check_guest(report, Path(folder), root, qemu, program, shared)
    report.end()


main()
