"""Real redis, PostgreSQL, nginx and HAProxy for the tests: found, started, stopped by process id.

Each server lives on a free loopback port with its files in a folder of its own. A missing binary
fails the test and names the Debian package; nothing is skipped. Called by conftest and by tests
that need a server they may freeze or kill.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.certificate import certificate
from tests.serve import free_port

START_TIMEOUT = 30.0
PASSWORD = "canary-of-the-database"  # of the cluster that asks for one
_TRIES = 3
_ROOM = 1 << 30


class ServerMissing(RuntimeError):
    """A program the tests need is not installed; the text says how to get it."""


class ServerFailed(RuntimeError):
    """A server did not come up; the text ends with what it said."""


def program(name: str, package: str, places: tuple[str, ...] = ()) -> str:
    """Absolute path of a server's binary; ServerMissing names the Debian package."""
    found = [str(p) for place in places for p in sorted(Path("/").glob(place), reverse=True)]
    path = shutil.which(name) or next(iter(found), None)
    if path is None:
        raise ServerMissing(f"{name} is not installed: apt-get install -y {package}")
    return path


def redis_program() -> str:
    return program("redis-server", "redis-server", ("usr/bin/redis-server",))


def nginx_program() -> str:
    return program("nginx", "nginx-light", ("usr/sbin/nginx",))


def haproxy_program() -> str:
    return program("haproxy", "haproxy", ("usr/sbin/haproxy",))


def postgres_program(name: str) -> str:
    """A program of the newest PostgreSQL installed; Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=_version)
    return str(found[-1]) if found else program(name, "postgresql")


def _version(path: Path) -> float:
    return float(path.parts[-3])


@dataclass
class Server:
    """A running server. `freeze` stops it from answering while its connections stay open."""

    port: int
    folder: Path
    command: list[str]
    ready: Callable[[Server], bool]
    stop_signal: int = signal.SIGTERM
    user: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "server.log").read_text(errors="replace")
        return ""

    def start(self) -> None:
        """Start it (again), and wait until it answers; ServerFailed when it does not."""
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"PATH": os.environ.get("PATH", "/usr/bin"), "LC_ALL": "C", **self.env},
                user=self.user,
                group=self.user,
                extra_groups=[] if self.user else None,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self.ready(self):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(f"{self.command[0]} did not come up:\n{self.log[-2000:]}")
            time.sleep(0.01)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """As in a power cut."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """In order; killed when it takes longer than ten seconds."""
        self._end(self.stop_signal)

    def _end(self, number: int) -> None:
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def answers_tcp(server: Server) -> bool:
    """True once the port takes connections."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 1):
        return True
    return False


@contextlib.contextmanager
def running(
    make: Callable[[int, Path], Server],
    user: str | None = None,
    within: Path | None = None,
    port: Callable[[], int] = free_port,
) -> Iterator[Server]:
    """A server in a fresh folder, on a port of its own; both are gone afterwards."""
    # Not pytest's tmp_path: only its owner can enter that, and PostgreSQL runs as somebody else.
    folder = Path(tempfile.mkdtemp(prefix="wardgate-test-", dir=within))
    if user:
        shutil.chown(folder, user, user)
    try:
        server = _started(make, folder, port)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _started(make: Callable[[int, Path], Server], folder: Path, port: Callable[[], int]) -> Server:
    # Somebody else may take the free port before the server does.
    for attempt in range(_TRIES):
        server = make(port(), folder)
        try:
            server.start()
        except ServerFailed:
            if attempt == _TRIES - 1:
                raise
        else:
            return server
    raise AssertionError("unreachable")


def redis_server(
    port: Callable[[], int] = free_port,
) -> contextlib.AbstractContextManager[Server]:
    """A Redis that keeps nothing on disk."""
    return running(_redis, port=port)


def _redis(port: int, folder: Path) -> Server:
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    return Server(port, folder, [redis_program(), *options], _pongs)


def _pongs(server: Server) -> bool:
    with contextlib.suppress(OSError):
        return redis_command(server.port, "PING") == b"+PONG\r\n"
    return False


def redis_command(port: int, line: str, timeout: float = 5.0) -> bytes:
    """One inline command, and the beginning of what Redis answers; TimeoutError if it does not."""
    with socket.create_connection(("127.0.0.1", port), timeout) as sock:
        sock.sendall(line.encode() + b"\r\n")
        return sock.recv(4096)


def redis_url(server: Server) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


def postgres_server(
    port: Callable[[], int] = free_port, *more: str
) -> contextlib.AbstractContextManager[Server]:
    """A PostgreSQL cluster for one test session: nothing is flushed to disk; `more` settings."""
    return running(
        lambda p, at: _postgres(p, at, "trust", *more), _postgres_user(), _memory(), port
    )


def _memory() -> Path | None:
    """A file system in memory, where there is room for a cluster.

    A database is three hundred files: to make and drop one takes 20 ms there, and on a disk that
    others write to half a second.
    """
    place = Path("/dev/shm")
    if place.is_dir() and shutil.disk_usage(place).free >= _ROOM:
        return place
    return None


def _postgres_user() -> str | None:
    # PostgreSQL refuses to run as root; its Debian package brings this user.
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise ServerMissing("no user postgres: apt-get install -y postgresql") from None


def _postgres(port: int, folder: Path, method: str = "trust", *more: str) -> Server:
    user, data = _postgres_user(), folder / "data"
    if not data.exists():
        options = ["-A", method, "-U", "wardgate", "-E", "UTF8", "--locale=C", "--no-sync"]
        if method != "trust":
            (folder / "password").write_text(PASSWORD)
            options += ["--pwfile", str(folder / "password")]
        _run([postgres_program("initdb"), "-D", str(data), *options], folder, user)
    command = [postgres_program("postgres"), "-D", str(data), "-p", str(port)]
    for setting in (*_POSTGRES_SETTINGS, *more):
        command += ["-c", setting]
    return Server(port, folder, command, _postgres_ready, signal.SIGINT, user)


def postgres_tls_server(*names: str) -> contextlib.AbstractContextManager[Server]:
    """A cluster for one database that takes TLS and PASSWORD only; `cert.pem` in its folder, an
    authority of its own, is for `names`.
    """
    return running(lambda port, folder: _postgres_tls(port, folder, names), _postgres_user())


def _postgres_tls(port: int, folder: Path, names: tuple[str, ...]) -> Server:
    file = certificate(folder, *names).rename(folder / "cert.pem")
    file.chmod(0o600)
    shutil.copy(file, folder / "key.pem")
    if user := _postgres_user():
        for name in ("cert.pem", "key.pem"):
            shutil.chown(folder / name, user, user)
    (folder / "hba").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    tls = ("ssl=on", f"ssl_cert_file={file}", f"ssl_key_file={folder / 'key.pem'}")
    return _postgres(port, folder, "scram-sha-256", *tls, f"hba_file={folder / 'hba'}")


_POSTGRES_SETTINGS = (
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "jit=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_wal_size=128MB",
    "autovacuum=off",
    "max_connections=200",
)


def _postgres_ready(server: Server) -> bool:
    command = [postgres_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(server.port)]
    return subprocess.run(command, check=False, cwd="/").returncode == 0


def postgres_url(server: Server, database: str) -> str:
    """The store URL of a database in the cluster."""
    return f"postgresql+asyncpg://wardgate@127.0.0.1:{server.port}/{database}"


def sql(server: Server, statement: str, database: str = "postgres") -> str:
    """Run one statement as the cluster's owner; what psql prints, without headings."""
    options = ["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"]
    where = ["-U", "wardgate", "-p", str(server.port), "-d", database, "-c", statement]
    return _run([postgres_program("psql"), *options, *where], Path("/"), None)


def _run(command: list[str], folder: Path, user: str | None) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        user=user,
        group=user,
        extra_groups=[] if user else None,
    )
    if done.returncode:
        raise ServerFailed(f"{command[0]} failed: {done.stdout}{done.stderr}")
    return done.stdout


def nginx_server(http: str) -> contextlib.AbstractContextManager[Server]:
    """An nginx with one worker; `http` is the inside of its http block, with `{port}` for the port
    to listen on.
    """
    return running(lambda port, folder: _nginx(port, folder, http))


def _nginx(port: int, folder: Path, http: str) -> Server:
    settings = folder / "nginx.conf"
    body = http.replace("{port}", str(port))
    settings.write_text(_NGINX.format(folder=folder, user=_nginx_user()) + f"http {{\n{body}\n}}\n")
    command = [nginx_program(), "-p", str(folder), "-e", "stderr", "-c", str(settings)]
    return Server(port, folder, command, answers_tcp, signal.SIGQUIT)


def _nginx_user() -> str:
    # As root its worker would drop to a user who cannot read the folder.
    return f"user {pwd.getpwuid(os.geteuid()).pw_name};" if os.geteuid() == 0 else ""


_NGINX = """\
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
"""


def haproxy_server(
    settings: Path, env: Mapping[str, str]
) -> contextlib.AbstractContextManager[Server]:
    """An HAProxy in the foreground with the file `settings`, which takes from `env` where its
    servers are and gets FRONT and STATUS.
    """
    return running(lambda port, folder: _haproxy(port, folder, settings, env))


def _haproxy(port: int, folder: Path, settings: Path, env: Mapping[str, str]) -> Server:
    ours = {"FRONT": f"127.0.0.1:{port}", "STATUS": f"127.0.0.1:{free_port()}"}
    command = [haproxy_program(), "-db", "-f", str(settings)]
    return Server(port, folder, command, answers_tcp, signal.SIGUSR1, env={**env, **ours})
