"""Who is measured: nginx and Wardgate, each doing the same job on a core of its own.

The job: check the caller's key, replace it by the provider's, pass everything through unbuffered
over kept-alive connections. Used by stages.py.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import processes, wire
from tests.bench.load import BenchFailed
from tests.serve import free_port
from tests.servers import ServerMissing, nginx_program

# A table of connections large enough for every phase but those that hold thousands of streams.
STREAMS = 512

_NGINX = """\
daemon off; worker_processes {workers}; pid {port}.pid; error_log stderr error; {user}
events {{ worker_connections {connections}; multi_accept on; }}
http {{
  access_log off; client_body_buffer_size 256k; tcp_nodelay on; keepalive_requests 1000000000;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4;
  scgi_temp_path t5;
  map_hash_bucket_size 256;
  map $http_authorization $known {{ default 0; "Bearer {client_key}" 1; }}
  upstream provider {{
    server 127.0.0.1:{upstream}; keepalive 2048; keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      if ($known = 0) {{ return 401; }}
      proxy_pass {scheme}://provider; proxy_http_version 1.1; proxy_buffering off;
      proxy_set_header Connection ""; proxy_set_header Authorization "Bearer {upstream_key}";
      proxy_read_timeout 300s; {tls}
    }}
  }}
}}
"""
_NGINX_TLS = (
    "proxy_ssl_verify on; proxy_ssl_trusted_certificate {authority}; proxy_ssl_name {name}; "
    "proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3; proxy_ssl_session_reuse on;"
)


@dataclass(frozen=True)
class Job:
    """What differs from one stage of the bench to the next.

    `streams` is how many must fit at once; with `authority`, a file, the provider speaks TLS and
    this is whom to trust.
    """

    workers: int = 1
    streams: int = STREAMS
    authority: Path | None = None

    @property
    def scheme(self) -> str:
        return "https" if self.authority else "http"


@dataclass
class Peer:
    """A server that can be started. `pids` are the processes whose time and memory count, those
    whose command lines hold `work` its workers."""

    name: str
    port: int
    client_key: str
    command: list[str]
    work: str
    folder: Path
    env: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it on its core; whether it answers is for the caller to find out."""
        with (
            (self.folder / f"{self.port}.log").open("wb") as log,
            processes.on_core(processes.PEER_CORE),
        ):
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pids(self) -> list[int]:
        if self.process is None or self.process.poll() is not None:
            raise BenchFailed(f"{self.name} has ended: {self.last_words()}")
        return processes.tree(self.process.pid)

    @property
    def workers(self) -> list[int]:
        return processes.titled(self.pids, self.work)

    def last_words(self) -> str:
        return (self.folder / f"{self.port}.log").read_text(errors="replace")[-600:].strip()

    def stop(self) -> None:
        """Kills it and all its processes: nobody needs what it would still write down."""
        process, self.process = self.process, None
        if process is None:
            return
        # The parent first, who would start the others again.
        for pid in processes.tree(process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def nginx(folder: Path, upstream: int, job: Job) -> Peer:
    """Debian's nginx. Raises BenchFailed when it is not installed."""
    try:
        program = nginx_program()
    except ServerMissing as error:
        raise BenchFailed(str(error)) from None
    port, client_key = free_port(), "sk-client-" + "c" * 40
    config = _NGINX.format(
        workers=job.workers,
        # Two a stream and some: with less than a sixteenth free it closes callers that are idle.
        connections=5 * job.streams // 2,
        user="user root;" if os.getuid() == 0 else "",
        client_key=client_key,
        upstream=upstream,
        port=port,
        scheme=job.scheme,
        upstream_key=wire.UPSTREAM_KEY,
        tls=_NGINX_TLS.format(authority=job.authority, name="localhost") if job.authority else "",
    )
    (folder / f"{port}.conf").write_text(config)
    command = [program, "-p", f"{folder}/", "-c", f"{port}.conf", "-e", "stderr"]
    return Peer("nginx", port, client_key, command, "nginx: worker", folder)


def wardgate(folder: Path, upstream: int, job: Job) -> Peer:
    """Wardgate as `wardgate serve` starts it, with a stored key, a rate limit, metrics and logs.

    The admin app runs beside it and is idle.
    """
    port, admin_port = free_port(), free_port()
    env = {name: text for name, text in os.environ.items() if not name.startswith("WARDGATE_")}
    env |= {
        "WARDGATE_PROVIDER_BASE_URLS": f"openai={job.scheme}://127.0.0.1:{upstream}/v1",
        "WARDGATE_ALLOWED_UPSTREAM_CIDRS": "127.0.0.0/8",
        "OPENAI_API_KEY": wire.UPSTREAM_KEY,
    }
    if job.authority:
        env["SSL_CERT_FILE"] = str(job.authority)
    program = str(Path(sys.executable).with_name("wardgate"))
    store, client_key = _store(program, env, folder)
    data = folder / f"data-{job.workers}"
    if not data.exists():
        shutil.copytree(store, data)
    env["WARDGATE_DATA_DIR"] = str(data)
    serve = ["serve", "--port", str(port), "--admin-port", str(admin_port)]
    command = [program, *serve, "--workers", str(job.workers)]
    return Peer("wardgate", port, client_key, command, "gateway.process.worker", folder, env)


def _store(program: str, env: dict[str, str], folder: Path) -> tuple[Path, str]:
    """A data folder with the provider's key in its store, and the key callers use; made once."""
    store, kept = folder / "store", folder / "client-key"
    if not kept.exists():
        env = {**env, "WARDGATE_DATA_DIR": str(store)}
        add = ["config", "add", "openai", "--key-env", "OPENAI_API_KEY"]
        _run([program, *add, "--rate-limit", "1000000000"], env, folder)
        words = _run([program, "keys", "create", "bench"], env, folder).split()
        client_key = next((word for word in words if word.startswith("wg_")), "")
        if not client_key:
            raise BenchFailed("`wardgate keys create` printed no key")
        kept.write_text(client_key)
    return store, kept.read_text()


def _run(command: list[str], env: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        command, env=env, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise BenchFailed(f"`{' '.join(command)}` failed: {done.stderr.strip()[-400:]}")
    return done.stdout


PEERS: dict[str, Callable[[Path, int, Job], Peer]] = {"wardgate": wardgate, "nginx": nginx}
