"""deploy/Dockerfile without a container engine: its steps run in root directories of their own, and
what they leave is started as an engine would start it, on a network of its own.

The base image is this machine's system, with the Python that runs the tests. Needs to be root, as
whoever builds an image is, or sudo that asks nothing. Called by test_image.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen
from typing import Self

import pip

from tests.servers import ServerFailed

ROOT = Path(__file__).parent.parent
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
_PYTHON = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
# Where this machine gets packages from. The tests empty their environment of it.
_REACH = {n: v for n, v in os.environ.items() if n.startswith("PIP_") or n.endswith("_proxy")}
_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "etc", "dev", "proc")
ARBITRARY = 40321  # some platforms choose the user id, and no image knows it
_LIVING = ("dev", "proc")
# What is mounted where, beside the system.
_PYTHONS = {str(Path(pip.__file__).parent): "/base/lib/pip"}
if not sys.base_prefix.startswith("/usr"):
    _PYTHONS[sys.base_prefix] = sys.base_prefix
_LOOPBACK = (
    "import fcntl, socket, struct; up = struct.pack('16sh', b'lo', 0x41); "
    "fcntl.ioctl(socket.socket(), 0x8914, up)"
)


def privileged(*words: str) -> list[str]:
    """A command as root, in a mount namespace of its own."""
    ours = () if os.geteuid() == 0 else ("sudo", "-n")
    return [*ours, "unshare", "--mount", *words]


def as_root(script: str) -> str:
    """Run it to its end; its stdout. ServerFailed says what it said."""
    command = privileged("sh", "-euc", script)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise ServerFailed(f"{script}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def instructions(text: str) -> list[tuple[str, str]]:
    """(word, rest) of every line of a Dockerfile, continued lines joined, comments left out."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


@dataclass
class Stage:
    """One FROM and what follows: a root directory, the environment, what is said of a start."""

    root: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": "/base/bin:/usr/bin:/bin"})
    folder: str = "/"
    said: dict[str, str] = field(default_factory=dict)

    def words(self, name: str) -> list[str]:
        """The command after ENTRYPOINT, CMD or HEALTHCHECK."""
        rest = self.said[name]
        found: list[str] = json.loads(rest[rest.index("[") :])
        return found

    def inside(self, path: str) -> Path:
        """A path of the image as this machine sees it."""
        return self.root / os.path.join(self.folder, path).lstrip("/")


def build(folder: Path) -> Stage:
    """Run every step below `folder`, which is empty; gives the last stage."""
    _lay_context(folder / "context")
    stages: dict[str, Stage] = {}
    for word, rest in instructions(DOCKERFILE.read_text()):
        if word == "FROM":
            name = rest.partition(" AS ")[2] or "last"
            stage = stages[name] = Stage(folder / name)
            as_root(_base(stage.root))
        else:
            _follow(stage, stages, folder / "context", word, rest)
    return stage


def _lay_context(place: Path) -> None:
    """What the file beside the Dockerfile lets an engine see."""
    lines = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    hidden = shutil.ignore_patterns(*(line[3:] for line in lines if line.startswith("**/")))
    place.mkdir()
    for name in (line[1:] for line in lines if line.startswith("!")):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place / name, ignore=hidden)
        else:
            shutil.copy(ROOT / name, place / name)


def _follow(stage: Stage, stages: dict[str, Stage], context: Path, word: str, rest: str) -> None:
    if word == "RUN":
        words = ["/bin/sh", "-euc", rest]
        env = {"HOME": "/tmp", **_REACH, **stage.env}
        # The names of hosts may be looked up by what lies in /run.
        mounts = f"{_mounts(stage.root)}mount --rbind /run {stage.root}/run\n"
        as_root(f"{mounts}exec chroot {stage.root} {_in(env, stage.folder)} {shlex.join(words)}")
    elif word == "COPY":
        as_root(_copy(stage, stages, context, rest.split()))
    elif word == "ENV":
        for name, _, value in (pair.partition("=") for pair in shlex.split(rest)):
            stage.env[name] = re.sub(r"\$(\w+)", lambda hit: stage.env[hit[1]], value)
    elif word == "WORKDIR":
        stage.folder = rest
        as_root(f"mkdir -p {stage.inside(rest)}")
    else:
        stage.said[word] = rest


def _copy(stage: Stage, stages: dict[str, Stage], context: Path, words: list[str]) -> str:
    """What comes from another stage is moved: nobody asks for it there again."""
    if words[0].startswith("--from="):
        _, here, there = words
        source = stages[words[0].partition("=")[2]].inside(here)
        return f"mkdir -p {stage.inside(there).parent} && mv {source} {stage.inside(there)}"
    *names, target = words
    sources = [f"{context / name}/." if (context / name).is_dir() else name for name in names]
    there = str(stage.inside(target))
    return f"cd {context} && mkdir -p {there} && cp -r {' '.join(sources)} {there}"


def _base(root: Path) -> str:
    """The base image: places to mount the system at, and the words `python` and `pip`."""
    python = f'#!/bin/sh\nexec {_PYTHON} "$@"\n'
    installer = f'#!/bin/sh\nPYTHONPATH=/base/lib exec {_PYTHON} -m pip "$@"\n'
    links = [name for name in _SYSTEM if Path("/", name).is_symlink()]
    return f"""umask 022
mkdir -p {root}/base/bin {root}/base/lib/pip {root}/run {root}/tmp {root}{sys.base_prefix}
mkdir -p {" ".join(f"{root}/{name}" for name in _mounted())}
{"".join(f"ln -s {os.readlink(f'/{name}')} {root}/{name}{chr(10)}" for name in links)}
chmod 1777 {root}/tmp
printf %s {shlex.quote(python)} >{root}/base/bin/python
printf %s {shlex.quote(installer)} >{root}/base/bin/pip
chmod 755 {root}/base/bin/python {root}/base/bin/pip
"""


def _mounted() -> list[str]:
    places = [Path("/", name) for name in _SYSTEM]
    return [place.name for place in places if place.is_dir() and not place.is_symlink()]


def _mounts(root: Path) -> str:
    """For a namespace of its own: what is mounted is gone with it."""
    lines = [f"mount --rbind /{name} {root}/{name}" for name in _mounted()]
    lines += [f"mount --rbind {here} {root}{there}" for here, there in _PYTHONS.items()]
    return "\n".join([*lines, ""])


def _frozen(root: Path) -> str:
    """The same, and nothing can be written but in /data and /tmp."""
    fixed = [f"{root}/{name}" for name in _mounted() if name not in _LIVING]
    fixed += [f"{root}{there}" for there in _PYTHONS.values()]
    return f"""mount --bind {root} {root}
mount --bind {root}/data {root}/data
mount -t tmpfs -o mode=1777 tmpfs {root}/tmp
{_mounts(root)}
for place in {root} {" ".join(fixed)}; do mount -o remount,bind,ro $place; done
"""


def _in(env: dict[str, str], folder: str) -> str:
    return shlex.join(
        ["env", "-i", f"--chdir={folder}", *(f"{name}={value}" for name, value in env.items())]
    )


def _as_nobody(stage: Stage, env: dict[str, str], words: list[str]) -> str:
    drop = f"setpriv --reuid {ARBITRARY} --regid 0 --clear-groups --no-new-privs"
    return (
        f"{drop} --inh-caps=-all --bounding-set=-all "
        f"{_in({**stage.env, **env}, stage.folder)} {shlex.join(words)}"
    )


@dataclass
class Container:
    """A started image: read-only but for /data and /tmp, under a user id nobody in it knows."""

    stage: Stage
    folder: Path
    env: dict[str, str]

    def __enter__(self) -> Self:
        (self.folder / "log").touch()
        words = [*self.stage.words("ENTRYPOINT"), *self.stage.words("CMD")]
        start = f"""{_frozen(self.stage.root)}
{_PYTHON} -c {shlex.quote(_LOOPBACK)}
echo $$
exec chroot {self.stage.root} {_as_nobody(self.stage, self.env, words)} >{self.folder}/log 2>&1
"""
        command = privileged("--net", "sh", "-euc", start)
        self.process = Popen(command, stdin=DEVNULL, stdout=PIPE)
        assert self.process.stdout is not None
        with self.process.stdout as said:
            self.pid = int(said.readline())
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.send("KILL")
            self.process.wait(30)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def status(self) -> dict[str, str]:
        """What the system knows of its first process."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (row.partition(":") for row in lines)}

    def send(self, name: str) -> None:
        """A signal to its first process."""
        subprocess.run(privileged("kill", f"-{name}", str(self.pid)), check=True)

    def words(self, *words: str) -> list[str]:
        """The command that runs `words` inside, beside what runs there."""
        inside = _as_nobody(self.stage, self.env, [*words])
        enter = f"nsenter --target {self.pid} --mount --net --root {inside}"
        return privileged("sh", "-euc", f"exec {enter}")

    def run(self, *words: str) -> tuple[int, str]:
        """Exit code and output of `words` run inside."""
        done = subprocess.run(
            self.words(*words), capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout + done.stderr

    @contextlib.contextmanager
    def beside(self, *words: str) -> Iterator[Popen[bytes]]:
        """`words` running inside until the block is left; their output is piped."""
        command = self.words(*words)
        with Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT) as process:
            try:
                yield process
            finally:
                # It may be root's, and may have ended.
                subprocess.run(privileged("kill", str(process.pid)), stderr=DEVNULL, check=False)
