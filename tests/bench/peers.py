"""Who is measured: nginx and Wardgate, each doing the same job on a core of its own.

The job: check the caller's key, replace it by the provider's, pass everything through unbuffered
over kept-alive connections. Used by __main__.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import processes, wire
from tests.bench.load import BenchFailed
from tests.serve import free_port
from tests.servers import ServerMissing, nginx_program

_NGINX = """\
daemon off; worker_processes 1; pid nginx.pid; error_log stderr error; {user}
events {{ worker_connections 16384; multi_accept on; }}
http {{
  access_log off; client_body_buffer_size 64k; tcp_nodelay on; keepalive_requests 1000000000;
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
      proxy_pass http://provider; proxy_http_version 1.1; proxy_buffering off;
      proxy_set_header Connection ""; proxy_set_header Authorization "Bearer {upstream_key}";
      proxy_read_timeout 300s;
    }}
  }}
}}
"""


@dataclass
class Peer:
    """A running server. `pids` are the processes whose time and memory count."""

    name: str
    port: int
    client_key: str
    command: list[str]
    folder: Path
    env: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it on its core; whether it answers is for the caller to find out."""
        with (self.folder / "log").open("wb") as log, processes.on_core(processes.PEER_CORE):
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

    def last_words(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-600:].strip()

    def stop(self) -> None:
        """Asks it to end, and sees to it that the whole process group is gone."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def nginx(folder: Path, upstream: int) -> Peer:
    """Debian's nginx with one worker. Raises BenchFailed when it is not installed."""
    try:
        program = nginx_program()
    except ServerMissing as error:
        raise BenchFailed(str(error)) from None
    port, client_key = free_port(), "sk-client-" + "c" * 40
    user = "user root;" if os.getuid() == 0 else ""
    config = _NGINX.format(
        user=user,
        client_key=client_key,
        upstream=upstream,
        port=port,
        upstream_key=wire.UPSTREAM_KEY,
    )
    (folder / "nginx.conf").write_text(config)
    command = [program, "-p", f"{folder}/", "-c", "nginx.conf", "-e", "stderr"]
    return Peer("nginx", port, client_key, command, folder)


def wardgate(folder: Path, upstream: int) -> Peer:
    """Wardgate as `wardgate serve` starts it, with a stored key, a rate limit, metrics and logs.

    One worker; the admin app runs beside it and is idle.
    """
    port, admin_port = free_port(), free_port()
    env = {name: text for name, text in os.environ.items() if not name.startswith("WARDGATE_")}
    env |= {
        "WARDGATE_DATA_DIR": str(folder / "data"),
        "WARDGATE_PROVIDER_BASE_URLS": f"openai=http://127.0.0.1:{upstream}/v1",
        "WARDGATE_ALLOWED_UPSTREAM_CIDRS": "127.0.0.0/8",
        "OPENAI_API_KEY": wire.UPSTREAM_KEY,
    }
    program = str(Path(sys.executable).with_name("wardgate"))
    add = ["config", "add", "openai", "--key-env", "OPENAI_API_KEY"]
    _run([program, *add, "--rate-limit", "1000000000"], env, folder)
    words = _run([program, "keys", "create", "bench"], env, folder).split()
    client_key = next((word for word in words if word.startswith("wg_")), "")
    if not client_key:
        raise BenchFailed("`wardgate keys create` printed no key")
    serve = ["serve", "--port", str(port), "--admin-port", str(admin_port), "--workers", "1"]
    return Peer("wardgate", port, client_key, [program, *serve], folder, env)


def _run(command: list[str], env: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        command, env=env, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise BenchFailed(f"`{' '.join(command)}` failed: {done.stderr.strip()[-400:]}")
    return done.stdout
