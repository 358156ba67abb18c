#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""examples/nvme_target: its messages for mistakes, its end, and the first messages of a client.
Usage: check_nvme_target.py mistakes|client|disks FOLDER TARGET_CLIENT"""
import fcntl
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = None
CLIENT = None
failed = []


def check(name, good, got=""):
    print(f"{'ok    ' if good else 'FAILED'} {name}{'' if good else f': {got}'}", flush=True)
    if not good:
        failed.append(name)


class Server:
    """A running nvme_target."""

    def __init__(self, path, *arguments):
        self.path = Path(path)
        self.process = subprocess.Popen([PROGRAM, "--socket", str(path), *arguments], stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)
        while not self.path.exists() and self.process.poll() is None:
            time.sleep(0.01)

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.output = self.process.communicate(timeout=60)[0]
        return self.process.returncode


def refuses(name, words, *arguments, status=1):
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False)
    check(name, done.returncode == status and words in done.stderr, f"{done.returncode}: {done.stderr}")


def mistakes(work):
    image = work / "disk.img"
    image.write_bytes(bytes(1 << 20))
    free = str(work / "free.sock")
    refuses("no such image", "no such file", "--socket", free, "--disk", f"file:{work}/nothing")
    refuses("a directory", "is a directory", "--socket", free, "--disk", f"file:{work}")
    refuses("a disk of no kind", "is none of file:PATH", "--socket", free, "--disk", str(image))
    refuses("a size that is none", "is no size in whole blocks", "--socket", free, "--disk", "mem:1X")
    refuses("half a block of memory", "is no size in whole blocks", "--socket", free, "--disk", "mem:1000")
    odd = work / "odd.img"
    odd.write_bytes(bytes((1 << 20) + 100))
    refuses("an image of no whole number of blocks", "not a whole number of blocks", "--socket", free,
            "--disk", f"file:{odd}")
    odd.write_bytes(bytes((1 << 20) + 512))
    refuses("the same for blocks of 4096", "not a whole number of blocks", "--socket", free,
            "--disk", f"file:{odd}", "--block-size", "4096")
    refuses("a function that is not there", "0000:ff:1f.7", "--socket", free, "--disk", "nvme:0000:ff:1f.7")
    refuses("another block size than the disk's", "another block size", "--socket", free, "--disk", f"sim:{image}",
            "--block-size", "4096")
    stale = work / "stale.sock"
    stale.write_text("")
    refuses("a path that exists", "the path exists already", "--socket", str(stale), "--disk", "mem:1M")
    check("the file there is left alone", stale.exists())
    refuses("a path that is too long", "1 to 107 characters", "--socket", f"{work}/{'x' * 120}", "--disk", "mem:1M")
    refuses("more namespaces than blocks", "fewer blocks than namespaces", "--socket", free, "--disk", "mem:1K",
            "--namespaces", "3")
    server = Server(work / "one.sock", "--disk", f"file:{image}")
    refuses("a path where a server is", "another process serves", "--socket", str(server.path), "--disk", "mem:1M")
    refuses("an image in use", "in use by another process", "--socket", free, "--disk", f"file:{image}")
    check("it ends on SIGTERM", server.end() == 0, server.output)
    check("and removes its socket", not server.path.exists())
    with open(image, "r+b") as other:
        fcntl.lockf(other, fcntl.LOCK_EX)
        refuses("an image that another program has locked", "in use", "--socket", free, "--disk", f"file:{image}")
    server = Server(work / "two.sock", "--disk", f"file:{image}")
    check("a lock ends with its owner; SIGINT ends it too", server.end(signal.SIGINT) == 0, server.output)
    check("nothing was left behind", not (work / "free.sock").exists())


def client(work):
    server = Server(work / "disk.sock", "--disk", "mem:1M", "--queues", "3", "--once", "--verbose")
    s = socket.socket(socket.AF_UNIX)
    s.connect(str(server.path))

    def ask(command, payload):
        s.sendall(struct.pack("<HHIII", 7, command, 16 + len(payload), 0, 0) + payload)
        data, fds, _, _ = socket.recv_fds(s, 65536, 8)
        for fd in fds:
            os.close(fd)
        _, _, size, flags, error = struct.unpack_from("<HHIII", data)
        check(f"command {command}: one whole reply", size == len(data) and flags & 15 == 1, data)
        return error if flags & 0x20 else data[16:], len(fds)

    reply, _ = ask(1, struct.pack("<HH", 0, 0) + b'{"capabilities":{"max_msg_fds":8}}\0')
    check("VERSION 0.0", reply[:4] == bytes(4) and b"max_data_xfer_size" in reply, reply)
    reply, _ = ask(9, struct.pack("<QII", 0, 7, 4096))
    check("class code of NVMe", reply[16 + 9:16 + 12] == b"\x02\x08\x01", reply[:64])
    reply, fds = ask(5, struct.pack("<IIIIQQ", 64, 0, 0, 0, 0, 0))
    check("doorbells may be mapped", fds == 1 and struct.unpack_from("<QQ", reply, 48)[0] == 0x1000, reply)
    reply, _ = ask(7, struct.pack("<IIII", 16, 0, 2, 0))
    check("a vector for each queue and the admin queue", struct.unpack_from("<I", reply, 12)[0] == 4, reply)
    reply, _ = ask(17, b"")
    check("migration is refused as not supported", reply == 95, reply)
    s.close()
    output = server.process.communicate(timeout=60)[0]
    check("with --once it ends when the client leaves", server.process.returncode == 0, output)
    check("its counters are printed", "connections 1 messages 5 refused 1" in output, output)


def disks(work):
    """A client of ours fills each kind of disk through the server; an image holds the same afterwards."""
    kinds = ["mem:2M", "file", "uring", "sim"] + (["qtest"] if shutil.which("qemu-system-x86_64") else [])
    for seed, kind in enumerate(kinds):
        image = work / f"{seed}.img"
        image.write_bytes(bytes(2 << 20))
        name = kind if ":" in kind else f"{kind}:{image}"
        server = Server(work / f"{seed}.sock", "--disk", name, "--namespaces", "2", "--queues", "2")
        done = subprocess.run([CLIENT, server.path, str(seed), "2"], capture_output=True, text=True, timeout=100,
                              check=False)
        check(f"{kind}: a client reads what it wrote", done.returncode == 0, done.stderr)
        check(f"{kind}: the server ends", server.end() == 0, server.output)
        if ":" in kind:
            continue
        # The client's bytes, which come from std::mt19937.
        check(f"{kind}: the image holds them", image.read_bytes() == mersenne(seed, 2 << 20))


def mersenne(seed, count):
    """The low bytes of the first `count` numbers of the 32-bit Mersenne Twister of this seed."""
    state = [seed]
    for i in range(1, 624):
        state.append((1812433253 * (state[-1] ^ (state[-1] >> 30)) + i) & 0xffffffff)
    generator = random.Random()
    generator.setstate((3, (*state, 624), None))
    return bytes(generator.getrandbits(32) & 0xff for _ in range(count))


def main():
    global PROGRAM, CLIENT
    group, folder, CLIENT = sys.argv[1:4]
    PROGRAM = str(Path(folder) / "nvme_target")
    with tempfile.TemporaryDirectory() as work:
        {"mistakes": mistakes, "client": client, "disks": disks}[group](Path(work))
    sys.exit(1 if failed else 0)


main()
