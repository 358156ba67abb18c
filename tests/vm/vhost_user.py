#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""A stock Linux guest on a disk that examples/vhost_user_blk serves: a file system with checksums, and a
server that is killed and started again while the guest writes. Every second server uses io_uring. The same
guest has two SCSI disks of examples/vhost_user_scsi. Usage: vhost_user.py KEEP VHOST_USER_BLK VHOST_USER_SCSI"""
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
# SCSI: identity, capacity, a file system with checksums on LUN 0, unmapping on LUN 1.
wait_for [ -b /dev/sdb ]
echo "PB scsi-sectors: $(cat /sys/block/sda/size) $(cat /sys/block/sdb/size)"
echo "PB scsi-model: $(cat /sys/block/sda/device/vendor)/$(cat /sys/block/sda/device/model)"
if [ -x /bin/sg_inq ]; then
  sg_inq -p 0x80 /dev/sdb | grep -q "phasebit-1" && echo "PB sg_inq: ok"
  sg_vpd -p bl /dev/sda | grep -q "Maximum unmap LBA count: 2097152" && echo "PB sg_vpd: ok"
  sg_readcap -l /dev/sdb | grep -q "Logical block provisioning: lbpme=1" && echo "PB sg_readcap: ok"
  sg_luns /dev/sda | grep -q "Lun list length = 16" && echo "PB sg_luns: ok"
  head -c 65536 /tmp/seed > /tmp/part && dd if=/tmp/part of=/dev/sdb bs=64k seek=4 oflag=direct 2> /dev/null
  sg_unmap -l 512 -n 128 /dev/sdb && echo "PB sg_unmap: ok"
  sg_write_same --16 -l 1024 -n 64 -i /tmp/part -x 512 /dev/sdb && echo "PB sg_write_same: ok"
  sg_raw /dev/sda ec 00 00 00 00 00 2> /tmp/raw; grep -q "Invalid command operation code" /tmp/raw && echo "PB sg_raw: ok"
  sg_reset -d /dev/sdb && echo "PB sg_reset: ok"
else
  echo "PB sg: not installed"
fi
mke2fs /dev/sda > /dev/null 2>&1 && mount -t ext4 /dev/sda /mnt && echo "PB scsi-mounted: ok"
for i in 1 2 3 4 5 6 7 8; do { cat /tmp/data; echo $i; } > /mnt/file$i; done
sync && echo 3 > /proc/sys/vm/drop_caches
for i in 1 2 3 4 5 6 7 8; do
  [ "$(sha256sum < /mnt/file$i)" = "$({ cat /tmp/data; echo $i; } | sha256sum)" ] && good="$good."
done
echo "PB scsi-checksums: ${#good}"
rm /mnt/file1 && fstrim /mnt && echo "PB scsi-trim: ok"
umount /mnt && echo "PB scsi-unmounted: ok"
dmesg | grep -i "i/o error\|blk_update\|ext4-fs error\|timed out" | sed 's/^/PB-ERROR /'
echo "PB device: $(sha256sum < /dev/vda | cut -d' ' -f1)"
echo "PB scsi-device: $(sha256sum < /dev/sda | cut -d' ' -f1)"
"""
SG = ("sg_inq", "sg_vpd", "sg_readcap", "sg_luns", "sg_unmap", "sg_write_same", "sg_raw", "sg_reset")


def has_uring(program):
    """Whether the program was built with liburing, and the kernel lets it be used."""
    libraries = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    disabled = Path("/proc/sys/kernel/io_uring_disabled")
    return "liburing" in libraries and (not disabled.exists() or disabled.read_text().strip() == "0")


def main():
    keep, program, scsi_program = sys.argv[1:4]
    if shutil.which("qemu-system-x86_64") is None:
        vm.skip("qemu-system-x86_64 is not installed")
    root = vm.kernel()
    report = vm.Report(keep)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        image = work / "disk.img"
        image.write_bytes(bytes(64 << 20))
        path = work / "disk.sock"
        units = [work / "unit0.img", work / "unit1.img"]
        units[0].write_bytes(bytes(96 << 20))
        units[1].write_bytes(bytes(8 << 20))
        scsi_path = work / "scsi.sock"
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
        scsi = subprocess.Popen([scsi_program, "--socket", str(scsi_path), "--image", str(units[0]), "--image",
                                 str(units[1]), "--queues", "2", "--serial", "phasebit", "--io", ways[-1]],
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        tools = [t for t in map(shutil.which, SG) if t]
        try:
            for _ in range(100):
                if path.exists() and scsi_path.exists():
                    break
                time.sleep(0.05)
            guest = vm.Guest(
                work, root, SCRIPT, tools,
                ["-machine", "q35,memory-backend=m", "-object", "memory-backend-memfd,id=m,size=768M,share=on",
                 "-chardev", f"socket,id=c,path={path},reconnect=1",
                 "-device", "vhost-user-blk-pci,chardev=c,num-queues=2",
                 "-chardev", f"socket,id=s,path={scsi_path}",
                 "-device", "vhost-user-scsi-pci,chardev=s,num_queues=2"],
                "no_timer_check",
                modules=["crc32c_generic", "ext4", "virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "sg"])
            lines = guest.run(400, on_line)
        finally:
            scsi.terminate()
            scsi.wait()
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
        report.check("both logical units have their image's size", got.get("scsi-sectors") == f"{96 << 11} {8 << 11}",
                     got.get("scsi-sectors"))
        report.check("the model of the logical units", got.get("scsi-model", "").split() == ["phasebit/virtio", "disk"],
                     got.get("scsi-model"))
        for name in ("scsi-mounted", "scsi-trim", "scsi-unmounted", *([] if "sg" in got else [
                "sg_inq", "sg_vpd", "sg_readcap", "sg_luns", "sg_unmap", "sg_write_same", "sg_raw", "sg_reset"])):
            report.check(name, got.get(name) == "ok", got.get(name))
        report.check("eight files on the SCSI disk have their checksums", got.get("scsi-checksums") == "8",
                     got.get("scsi-checksums"))
        report.check("the SCSI disk is its image", got.get("scsi-device") == vm.sha256(units[0]),
                     got.get("scsi-device"))
        errors = [line for line in lines if line.startswith("PB-ERROR")]
        report.check("the kernel has seen no error of the disk", not errors, errors)
        report.check("the device is the image", got.get("device") == vm.sha256(image), got.get("device"))
        fsck = shutil.which("e2fsck") or "/sbin/e2fsck"
        for name in (image, units[0]) if Path(fsck).exists() else ():
            done = subprocess.run([fsck, "-fn", str(name)], capture_output=True, text=True, check=False)
            report.check(f"e2fsck finds a clean file system in {name.name}", done.returncode == 0, done.stdout[-500:])
        if report.failed:
            print(f"the console is in {report.keep_console(guest, 'vhost_user')}")
            print("\n".join(lines[-60:]))
    report.end()


main()
