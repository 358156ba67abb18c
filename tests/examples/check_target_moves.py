#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""examples/nvme_target under a client that writes and verifies: handed over to the next process 100 times,
killed and restarted 100 times. Usage: check_target_moves.py hand_over|kill FOLDER TARGET_WRITER [COUNT]"""
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

failed = []


def check(name, good, got=""):
    print(f"{'ok    ' if good else 'FAILED'} {name}{'' if good else f': {got}'}", flush=True)
    if not good:
        failed.append(name)


def start(program, path, image, *more):
    server = subprocess.Popen([program, "--socket", str(path), "--disk", image, "--queues", "2", "--hand-over", *more],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
    line = server.stdout.readline()
    return server, line


def hand_over(work, program, client, count, image, *more):
    """The pipe of the first process is that of all."""
    path, stop = work / "disk.sock", work / "stop"
    stop.unlink(missing_ok=True)
    if not image.startswith("mem:"):
        Path(image.partition(":")[2]).write_bytes(bytes(2 << 20))
    server, line = start(program, path, image, *more)
    check(f"{image}: it serves", "serving 1 namespaces" in line, line)
    writer = subprocess.Popen([client, str(path), str(stop), "steady"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True)
    pid, moved, times, said = server.pid, 0, [], []
    watchdog = threading.Timer(400, lambda: writer.kill())
    watchdog.start()
    while moved < count and writer.poll() is None:
        time.sleep(0.05)
        os.kill(pid, signal.SIGHUP)
        new = None
        while new is None:
            line = server.stdout.readline()
            if not line:
                break
            said.append(line)
            if line.startswith("handed over to"):
                new, took = int(line.split()[3]), int(line.split()[5])
        if new is None:
            break
        times.append(took)
        if moved == 0:
            server.wait(timeout=20)
        # The line of the next process comes when it serves; its signal handlers are there before that.
        while not any("took over" in text for text in said[-2:]):
            line = server.stdout.readline()
            if not line:
                break
            said.append(line)
        pid, moved = new, moved + 1
    check(f"{image}: handed over {count} times", moved == count, (moved, said[-5:]))
    stop.touch()
    out, _ = writer.communicate(timeout=100)
    watchdog.cancel()
    check(f"{image}: the client has noticed nothing", writer.returncode == 0 and " 1 connections" in out, out)
    print(f"       {out.strip()}; start of a process to its taking over {sorted(times)[len(times) // 2] if times else 0} ms "
          f"median, {max(times, default=0)} ms longest")
    os.kill(pid, signal.SIGTERM)
    rest = server.stdout.read()
    check(f"{image}: the last process ends and removes the socket", not path.exists(), rest)


def refused(work, program):
    """What cannot be handed over goes on where it is."""
    path = work / "managed.sock"
    server, _ = start(program, path, "mem:4M", "--managed")
    os.kill(server.pid, signal.SIGHUP)
    line = server.stdout.readline()
    check("managed namespaces are not handed over, and served on",
          "not handed over" in line and server.poll() is None, line)
    server.terminate()
    check("and end cleanly", server.wait(timeout=30) == 0)


def kill(work, program, client, count):
    path, stop, image = work / "disk.sock", work / "stop", work / "disk.img"
    image.write_bytes(bytes(2 << 20))
    server, _ = start(program, path, f"file:{image}")
    writer = subprocess.Popen([client, str(path), str(stop), "reconnect"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
    watchdog = threading.Timer(500, lambda: writer.kill())
    watchdog.start()
    killed = 0
    while killed < count and writer.poll() is None:
        # Each process is used for a while before it is killed.
        if not writer.stdout.readline().startswith("connected"):
            break
        time.sleep(0.01 * (killed % 23))
        server.kill()
        server.communicate()
        path.unlink(missing_ok=True)
        server, _ = start(program, path, f"file:{image}")
        killed += 1
    check(f"killed {count} times", killed == count, killed)
    writer.stdout.readline()
    stop.touch()
    out, _ = writer.communicate(timeout=100)
    watchdog.cancel()
    check("what was flushed is there, and nothing that was not written", writer.returncode == 0, out)
    print("      ", out.strip())
    connections = int(out.split(" connections")[0].split()[-1]) if writer.returncode == 0 else 0
    check("the client has worked with every process", connections == count + 1, connections)
    server.terminate()
    check("the last one ends cleanly", server.wait(timeout=60) == 0)


def main():
    group, folder, client = sys.argv[1:4]
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 100
    program = str(Path(folder) / "nvme_target")
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        if group == "hand_over":
            image = work / "disk.img"
            hand_over(work, program, client, count, "mem:2M")
            hand_over(work, program, client, max(count // 5, 1), f"file:{image}")
            hand_over(work, program, client, max(count // 5, 1), f"file:{image}", "--trap-doorbells")
            refused(work, program)
        else:
            kill(work, program, client, count)
    sys.exit(1 if failed else 0)


main()
