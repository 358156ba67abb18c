#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""A stock Linux guest on a disk that examples/vhost_user_blk serves: a file system with checksums, and a
server that is killed and started again while the guest writes. Every second server uses io_uring.
Usage: vhost_user.py KEEP VHOST_USER_BLK"""
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import vm

SCRIPT = r"""
wait_for [ -b /dev/vda ]
echo "PB sectors: $(cat /sys/block/vda/size)"
echo "PB queues: $(ls /sys/block/vda/mq | wc -l)"
mke2fs /dev/vda > /dev/null 2>&1 && mount -t ext4 /dev/vda /mnt && echo "PB mounted: ok"
head -c 1048576 /dev/urandom > /tmp/seed
for i in 1 2 3 4 5 6; do cat /tmp/seed; echo round $i; done > /tmp/data
want=$(sha256sum < /tmp/data)
cp /tmp/data /mnt/before && sync && echo 3 > /proc/sys/vm/drop_caches
[ "$(sha256sum < /mnt/before)" = "$want" ] && echo "PB before: ok"
# The server dies in here, several times.
for round in 1 2 3; do
  (cp /tmp/data /mnt/during$round && sync; echo $? > /tmp/status$round) &
  sleep 0.3
  echo "PB-KILL $round"
  wait
  echo "PB during$round: $(cat /tmp/status$round)"
  echo 3 > /proc/sys/vm/drop_caches
  [ "$(sha256sum < /mnt/during$round)" = "$want" ] && echo "PB sum$round: ok"
done
rm /mnt/during1 && fstrim /mnt && echo "PB trim: ok"
[ "$(sha256sum < /mnt/before)" = "$want" ] && echo "PB after: ok"
umount /mnt && echo "PB unmounted: ok"
dmesg | grep -i "i/o error\|blk_update\|ext4-fs error\|timed out" | sed 's/^/PB-ERROR /'
echo "PB device: $(sha256sum < /dev/vda | cut -d' ' -f1)"
"""


def has_uring(program):
    """Whether the program was built with liburing, and the kernel lets it be used."""
    libraries = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    disabled = Path("/proc/sys/kernel/io_uring_disabled")
    return "liburing" in libraries and (not disabled.exists() or disabled.read_text().strip() == "0")


def main():
    keep, program = sys.argv[1:3]
    if shutil.which("qemu-system-x86_64") is None:
        vm.skip("qemu-system-x86_64 is not installed")
    root = vm.kernel()
    report = vm.Report(keep)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        image = work / "disk.img"
        image.write_bytes(bytes(64 << 20))
        path = work / "disk.sock"
        servers = []

        ways = ["blocking", "uring"] if has_uring(program) else ["blocking"]

        def serve():
            way = ways[len(servers) % len(ways)]
            servers.append(subprocess.Popen([program, "--socket", str(path), "--image", str(image),
                                             "--queues", "2", "--io", way], stdin=subprocess.DEVNULL,
                                            stdout=subprocess.DEVNULL))

        def on_line(line):
            if line.startswith("PB-KILL"):
                servers[-1].kill()
                servers[-1].wait()
                time.sleep(0.2)
                serve()

        serve()
        try:
            for _ in range(100):
                if path.exists():
                    break
                time.sleep(0.05)
            guest = vm.Guest(
                work, root, SCRIPT, [],
                ["-machine", "q35,memory-backend=m", "-object", "memory-backend-memfd,id=m,size=768M,share=on",
                 "-chardev", f"socket,id=c,path={path},reconnect=1",
                 "-device", "vhost-user-blk-pci,chardev=c,num-queues=2"],
                "no_timer_check", modules=["crc32c_generic", "ext4", "virtio_pci", "virtio_blk"])
            lines = guest.run(300, on_line)
        finally:
            servers[-1].terminate()
            servers[-1].wait()
        got = vm.results(lines)
        report.guest("vhost-user", lines)
        report.check("the disk has the image's size", got.get("sectors") == str((64 << 20) // 512), got.get("sectors"))
        for name in ("mounted", "before", "sum1", "sum2", "sum3", "trim", "after", "unmounted"):
            report.check(name, got.get(name) == "ok", got.get(name))
        for name in ("during1", "during2", "during3"):
            report.check(f"{name}: written while the server was killed", got.get(name) == "0", got.get(name))
        print(f"servers by: {', '.join(ways)}")
        report.check("the server was killed three times", len(servers) == 4, len(servers))
        errors = [line for line in lines if line.startswith("PB-ERROR")]
        report.check("the kernel has seen no error of the disk", not errors, errors)
        report.check("the device is the image", got.get("device") == vm.sha256(image), got.get("device"))
        fsck = shutil.which("e2fsck") or "/sbin/e2fsck"
        if Path(fsck).exists():
            done = subprocess.run([fsck, "-fn", str(image)], capture_output=True, text=True, check=False)
            report.check("e2fsck finds a clean file system", done.returncode == 0, done.stdout[-500:])
        if report.failed:
            print(f"the console is in {report.keep_console(guest, 'vhost_user')}")
            print("\n".join(lines[-60:]))
    report.end()


main()
