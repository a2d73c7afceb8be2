"""A machine that loses power: a disk of tests/powercut and a boot of its own, for one broker.

A mount namespace is one boot: the disk is mounted in it alone, and the kernel's boot id is another
one there, as after a real power cut. When its processes have ended nothing of it is left.
"""

import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
import uuid
from pathlib import Path

from . import wire
from .broker import Broker, die_with_parent
from .building import built
from .provision import CACHE, TESTS, attempt, say

SOURCES = TESTS / "powercut"
GROUP_MAGIC, GROUP_BYTES_MAX = b"odrG", 8 << 20
BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Unavailable(Exception):
    """Why this machine lets nobody mount a disk of his own."""


def program():
    """The layer, built once for each state of its sources."""
    digest = hashlib.sha256()
    for path in sorted([*SOURCES.glob("Cargo.*"), *SOURCES.glob("src/*.rs")]):
        digest.update(path.read_bytes())
    kept = CACHE / "tools" / f"odradek-powercut-{digest.hexdigest()[:12]}"
    if kept.exists():
        return kept
    say(f"building {SOURCES.name} into {kept}")
    target = CACHE / "powercut-target"
    problem = attempt(["cargo", "build", "-q", "--release", "--locked", "--manifest-path",
                       str(SOURCES / "Cargo.toml"), "--target-dir", str(target)])
    assert problem is None, f"tests/powercut cannot be built: {problem}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as copy:
        shutil.copyfile(target / "release" / "odradek-powercut", copy.name)
    os.chmod(copy.name, 0o755)
    os.rename(copy.name, kept)
    return kept


def syncs_beside_writes(journal_each=None):
    """The environment of a program that may write to a file while a sync of it takes its time
    (`sync.c`). `journal_each`: of so many syncs of a journal only one covers anything."""
    library = built(SOURCES / "sync.c", "cc", "-O2", "-shared", "-fPIC")
    lies = {} if journal_each is None else {"POWERCUT_JOURNAL_EACH": str(journal_each)}
    return {"LD_PRELOAD": str(library), **lies}


class Machine:
    """One boot. `disk` is the plain folder that the disk is made of, and is again after a cut or
    the end; `mount` is where programs that `inside` begins see it."""

    def __init__(self, disk, mount, *options):
        self.disk, self.mount = Path(disk), Path(mount)
        self.mount.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", prefix="boot-id-", delete=False) as boot_id:
            boot_id.write(f"{uuid.uuid4()}\n")
        script = f'mount --bind "$0" {BOOT_ID} && rm "$0" && exec "$@"'
        try:
            self.layer = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", script, boot_id.name, str(program()), str(self.disk),
                 str(self.mount), *options],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                preexec_fn=die_with_parent)
        except OSError as error:
            raise Unavailable(str(error)) from error
        if self.layer.stdout.readline() != "mounted\n":
            said = self.layer.communicate()[1].strip()
            raise Unavailable(f"no file system can be mounted here: {said}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def inside(self, folder="/"):
        """The words to begin a command with that is to run on this machine, in that folder."""
        return ["nsenter", f"--mount=/proc/{self.layer.pid}/ns/mnt", f"--wdns={folder}"]

    def cut(self, seed, afterwards="fail", requests=0):
        """The power goes, after so many more changes of the disk; then every request fails or
        hangs. Gives back what was lost; `disk` holds what is left."""
        self.ask(seed, afterwards, requests)
        return self.lost()

    def ask(self, seed, afterwards="fail", requests=0):
        """The first half of `cut`: does not wait until the power is gone."""
        self.layer.stdin.write(f"cut {seed} {afterwards} {requests}\n")
        self.layer.stdin.flush()

    def lost(self):
        lines = []
        for line in self.layer.stdout:
            if line == "done\n":
                return lines
            lines.append(line.rstrip("\n"))
        raise AssertionError(f"the layer ended: {self.layer.communicate()[1]}")

    def end(self):
        """Whoever hangs in a request gets an error now. Without a cut, nothing is lost."""
        if self.layer.poll() is None:
            self.layer.stdin.close()
            self.layer.wait(60)


def journal_end(data, count=12):
    """{sequence: the last one that was synced when it was written} of the last whole groups that a
    cut has left in the journal (broker/log/src/journal.rs, group.rs)."""
    first, salt, content = 0, 0, b""
    for path in Path(data).glob("journal.*"):
        found = path.read_bytes()
        if len(found) > 64 and struct.unpack_from("<Q", found, 24)[0] > first:
            (salt, first), content = struct.unpack_from("<QQ", found, 16), found
    groups, at = {}, len(content)
    while len(groups) < count and (at := content.rfind(GROUP_MAGIC, 0, at)) >= 0:
        header = content[at:at + 64]
        _, payload_bytes, its_salt, sequence, synced = struct.unpack_from("<4sIQQQ", header)
        if its_salt == salt and payload_bytes < GROUP_BYTES_MAX:
            crc = wire.crc32c(header[:60], salt >> 32 ^ salt & 0xFFFFFFFF)
            crc = wire.crc32c(content[at + 64:at + 64 + payload_bytes], crc)
            if crc == struct.unpack_from("<I", header, 60)[0]:
                groups[sequence] = synced
    return groups


class PoweredBroker(Broker):
    """A broker on such a machine, which must be `on` before it starts."""

    def __init__(self, **options):
        super().__init__(**options)
        self.disk, self.machine = self.folder / "disk", None
        self.disk.mkdir(exist_ok=True)
        self.data = self.folder / "mount" / "data"

    def on(self, *options):
        self.machine = Machine(self.disk, self.folder / "mount", *options)
        return self

    def command(self):
        return [*self.machine.inside(self.folder), *super().command()]

    def off(self):
        """The machine is gone, its broker with it."""
        if self.process and self.process.poll() is None:
            self.process.kill()
        # Only now those end that hang in a request.
        if self.machine:
            self.machine.end()
        self.kill()

    def stop(self):
        code = super().stop()
        if self.machine:
            self.machine.end()
        return code
