"""A home network as namespaces of this machine: a server and a laptop behind a router, and somebody
on the Internet, who reaches the server through the router's port forwarding only.

                   router ──── 203.0.113.1 ──── internet 203.0.113.50
                     │ 192.168.77.1 (bridge)
        server 192.168.77.10     laptop 192.168.77.20
"""

import os
import shutil
import subprocess
from pathlib import Path

SERVER, LAPTOP, ROUTER = "192.168.77.10", "192.168.77.20", "192.168.77.1"
OUTSIDE, INTERNET = "203.0.113.1", "203.0.113.50"


class Unavailable(Exception):
    """Why this machine lets nobody make networks."""


class HomeNetwork:
    def __init__(self, forwarded_port, name):
        """`name` is what the Internet's name server would say 203.0.113.1 is called."""
        self.prefix = f"odradek-{os.getpid()}-"
        self.forwarded_port = forwarded_port
        self.name = name
        self.made = []

    def __enter__(self):
        if os.geteuid() != 0:
            raise Unavailable("only root makes network namespaces")
        try:
            self.make()
        except (subprocess.CalledProcessError, OSError) as error:
            self.remove()
            said = getattr(error, "stderr", "") or str(error)
            raise Unavailable(f"network namespaces cannot be made here: {said.strip()}") from error
        return self

    def __exit__(self, *_):
        self.remove()

    def make(self):
        for place in ("server", "laptop", "router", "internet"):
            run("ip", "netns", "add", self.prefix + place)
            self.made.append(place)
            self.ip(place, "link", "set", "lo", "up")
        # A host's name service is its /etc/hosts; `ip netns exec` puts this one there.
        self.hosts("internet", f"127.0.0.1 localhost\n{OUTSIDE} {self.name}\n")
        self.ip("router", "link", "add", "lan", "type", "bridge")
        self.ip("router", "address", "add", f"{ROUTER}/24", "dev", "lan")
        self.ip("router", "link", "set", "lan", "up")
        for place, address in (("server", SERVER), ("laptop", LAPTOP)):
            self.connect(place, address, f"to-{place}")
            self.ip("router", "link", "set", f"to-{place}", "master", "lan")
            self.ip(place, "route", "add", "default", "via", ROUTER)
        self.connect("internet", INTERNET, "wan")
        self.ip("router", "address", "add", f"{OUTSIDE}/24", "dev", "wan")
        self.inside("router", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
        port = self.forwarded_port
        for rule in (
            "add table ip nat",
            "add chain ip nat inbound { type nat hook prerouting priority -100; }",
            f"add rule ip nat inbound iif wan tcp dport {port} dnat to {SERVER}:{port}",
        ):
            self.inside("router", "nft", rule)

    def connect(self, place, address, router_end):
        self.ip("router", "link", "add", router_end, "type", "veth", "peer", "name", "eth0",
                "netns", self.prefix + place)
        self.ip(place, "address", "add", f"{address}/24", "dev", "eth0")
        self.ip(place, "link", "set", "eth0", "up")
        self.ip("router", "link", "set", router_end, "up")

    def hosts(self, place, text):
        folder = Path("/etc/netns") / (self.prefix + place)
        folder.mkdir(parents=True)
        (folder / "hosts").write_text(text)

    def ip(self, place, *arguments):
        run("ip", "-netns", self.prefix + place, *arguments)

    def command(self, place, *command):
        """The command as somebody at this place runs it."""
        return ["ip", "netns", "exec", self.prefix + place, *map(str, command)]

    def inside(self, place, *command, **options):
        return run(*self.command(place, *command), **options)

    def remove(self):
        for place in self.made:
            subprocess.run(["ip", "netns", "delete", self.prefix + place], check=False)
            shutil.rmtree(Path("/etc/netns") / (self.prefix + place), ignore_errors=True)
        self.made.clear()


def run(*command, **options):
    return subprocess.run(command, check=True, text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
