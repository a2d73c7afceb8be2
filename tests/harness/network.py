"""A network of one's own: any address and any port of an old set-up, as it was written.

The kernel gives namespaces to a thread; what the thread starts has them too, and they end with it.
"""

import contextlib
import ctypes
import os
import subprocess
import tempfile
import threading
import time

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def missing():
    """One sentence why there can be none here, or None."""
    try:
        done = subprocess.run(["unshare", "-n", "-m", "ip", "link", "set", "lo", "up"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        return str(error)
    return None if done.returncode == 0 else done.stdout.strip() or "unshare failed"


def inside(addresses, names, work):
    """Does the work where the machine has these addresses, and no others than its loopback, and
    where these host names ({name: address}) are known. Gives back what the work does."""
    outcome = {}

    def run():
        try:
            enter(addresses, names)
            outcome["value"] = work()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def enter(addresses, names):
    if LIBC.unshare(CLONE_NEWNS | CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    call("mount", "--make-rprivate", "/")
    call("ip", "link", "set", "lo", "up")
    for address in addresses:
        call("ip", "address", "add", f"{address}/32", "dev", "lo")
    with tempfile.NamedTemporaryFile("w", suffix="-hosts", delete=False) as hosts:
        hosts.write("127.0.0.1 localhost\n")
        hosts.writelines(f"{address} {name}\n" for name, address in names.items())
    os.chmod(hosts.name, 0o644)
    call("mount", "--bind", hosts.name, "/etc/hosts")
    os.unlink(hosts.name)


def call(*command):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def neighbour(ours, theirs):
    """Inside such a network, another machine on a cable: gives the words to begin a command with
    that is to run there. It has an address of its own and reaches ours."""
    # It lives for as long as its standard input is open.
    machine = subprocess.Popen(["unshare", "-n", "cat"], stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL)
    there = ["nsenter", "-t", str(machine.pid), "-n"]
    try:
        wait_until_apart(machine.pid)
        call("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns",
             str(machine.pid))
        call("ip", "address", "add", f"{ours}/24", "dev", "near")
        call("ip", "link", "set", "near", "up")
        call(*there, "ip", "link", "set", "lo", "up")
        call(*there, "ip", "address", "add", f"{theirs}/24", "dev", "far")
        call(*there, "ip", "link", "set", "far", "up")
        yield there
    finally:
        machine.stdin.close()
        machine.wait()


def wait_until_apart(pid, seconds=10):
    ours = os.readlink("/proc/thread-self/ns/net")
    deadline = time.monotonic() + seconds
    while os.readlink(f"/proc/{pid}/ns/net") == ours:
        assert time.monotonic() < deadline, "unshare did not begin"
        time.sleep(0.01)
