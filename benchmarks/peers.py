"""Peers of the gateway: how each is started in front of the scripted engine, if it is installed.

Each is set up for this one job, on one core: no access log, connections kept, nothing buffered,
one worker. nginx and haproxy compare the key with one fixed string, which is the least a gateway
can do.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks import install, launch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

KEY = "sk-benchmark"
TLS_LEAVES_OUT = {
    "S6": "a refused key costs the same with TLS as without",
    "S7": "the client can't decrypt that much on its core",
}
"""Of every target with TLS."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a peer needs to know of the benchmark."""

    folder: Path
    engine_socket: Path
    engine_port: int
    certificate: Path
    certificate_key: Path
    peers: Path = install.FOLDER
    """Where the benchmark has installed the peers."""

    def program(self, name: str) -> str | None:
        """Where a program is: among the peers that were installed for this, or on the machine."""
        folders = (self.peers / install.PYTHON / "bin", self.peers / install.DEBIAN / "usr" / "sbin")
        inside = next((folder / name for folder in folders if (folder / name).exists()), None)
        return str(inside) if inside else shutil.which(name)

    @property
    def libraries(self) -> dict[str, str]:
        """Where Debian's programs find the libraries that came with them."""
        folders = (self.peers / install.DEBIAN / "usr" / "lib").glob("*-linux-gnu*")
        return {"LD_LIBRARY_PATH": ":".join(map(str, folders))}

    def package_version(self, name: str) -> str:
        packages = self.peers / install.PYTHON / "lib"
        found = [*packages.glob(f"python3*/site-packages/{name}-*.dist-info")]
        return found[0].name.removeprefix(f"{name}-").removesuffix(".dist-info") if found else "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One server under test."""

    name: str
    version: str
    argv: tuple[str, ...]
    port: int = 0
    socket: str = ""
    key: str = KEY
    certificate: Path | None = None
    """What it shows where it speaks TLS."""
    ledger: Path | None = None
    """State folder of a gateway of ours that has to have metered every answer."""
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    leaves_out: Mapping[str, str] = field(default_factory=dict[str, str])
    """Scenarios it is not put under, with the reason."""
    start_seconds_max: float = 30

    @property
    def address(self) -> tuple[str, int] | str:
        return self.socket or ("127.0.0.1", self.port)


@dataclass(frozen=True, slots=True)
class Absent:
    """A peer that is not on this machine."""

    name: str
    reason: str


NGINX = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
error_log stderr crit;
pid {folder}/nginx.pid;
user root;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    client_max_body_size 8m;
    client_body_buffer_size 1m;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    map $http_authorization $refused {{ default 1; "Bearer {key}" 0; }}
    upstream engine {{
        server unix:{engine};
        keepalive 2048;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096{tls};
        location / {{
            if ($refused) {{ return 401; }}
            proxy_pass http://engine;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1
    maxconn 4096
    log /dev/null local0 emerg
defaults
    mode http
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    option http-no-delay
frontend api
    bind 127.0.0.1:{port} backlog 4096
    http-request deny deny_status 401 unless {{ req.hdr(authorization) -m str "Bearer {key}" }}
    default_backend engine
backend engine
    http-reuse always
    server engine unix@{engine} pool-max-conn 2048
"""

LITELLM = """
model_list:
  - model_name: scripted
    litellm_params:
      model: hosted_vllm/scripted
      api_base: http://127.0.0.1:{engine_port}/v1
      api_key: none
general_settings:
  master_key: {key}
  disable_spend_logs: true
  disable_error_logs: true
litellm_settings:
  telemetry: false
  num_retries: 0
"""


NGINX_TLS = """ ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3"""


def nginx(bench: Bench) -> Target | Absent:
    return _nginx(bench, "nginx", "", None)


def nginx_tls(bench: Bench) -> Target | Absent:
    """What TLS costs there: beside ours with TLS, not beside the others."""
    tls = NGINX_TLS.format(certificate=bench.certificate, key=bench.certificate_key)
    return _nginx(bench, "nginx-tls", tls, bench.certificate)


def _nginx(bench: Bench, name: str, tls: str, certificate: Path | None) -> Target | Absent:
    program = bench.program("nginx")
    if program is None:
        return Absent(name, "not installed (Debian package nginx-light)")
    folder, port = bench.folder / name, launch.free_port()
    folder.mkdir()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, engine=bench.engine_socket, port=port, key=KEY, tls=tls))
    return Target(
        name=name,
        version=_says(bench, program, "-v"),
        argv=(program, "-p", str(folder), "-c", str(config), "-e", "stderr"),
        port=port,
        certificate=certificate,
        env=bench.libraries,
        leaves_out=TLS_LEAVES_OUT if certificate else {},
    )


def haproxy(bench: Bench) -> Target | Absent:
    program = bench.program("haproxy")
    if program is None:
        return Absent("haproxy", "not installed (Debian package haproxy)")
    port = launch.free_port()
    config = bench.folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(engine=bench.engine_socket, port=port, key=KEY))
    return Target(
        name="haproxy",
        version=_says(bench, program, "-v"),
        argv=(program, "-db", "-f", str(config)),
        port=port,
        env=bench.libraries,
    )


def vllm_router(bench: Bench) -> Target | Absent:
    return _router(bench, "vllm-router", (), ("--log-level", "error", "--policy", "round_robin"))


def sglang_router(bench: Bench) -> Target | Absent:
    return _router(bench, "sglang-router", ("launch",), ("--log-level", "error", "--policy", "round_robin"))


def smg(bench: Bench) -> Target | Absent:
    return _router(bench, "smg", ("launch",), ("--log-level", "error", "--policy", "round_robin"))


def _router(bench: Bench, name: str, verb: tuple[str, ...], more: tuple[str, ...]) -> Target | Absent:
    """The Rust routers. They reach the engine over TCP and look at no key."""
    program = bench.program(name)
    if program is None:
        return Absent(name, f"not installed (Python package {name})")
    port = launch.free_port()
    where = ("--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(launch.free_port()))
    engine = ("--worker-urls", f"http://127.0.0.1:{bench.engine_port}")
    return Target(
        name=name,
        version=bench.package_version(name.replace("-", "_")),
        argv=(program, *verb, *where, *engine, *more),
        port=port,
        leaves_out={"S6": "it checks no key"},
        start_seconds_max=60,
    )


def litellm(bench: Bench) -> Target | Absent:
    program = bench.program("litellm")
    if program is None:
        return Absent("litellm", "not installed (Python package litellm[proxy])")
    port = launch.free_port()
    config = bench.folder / "litellm.yaml"
    config.write_text(LITELLM.format(engine_port=bench.engine_port, key=KEY))
    return Target(
        name="litellm",
        version=bench.package_version("litellm"),
        argv=(
            *(program, "--config", str(config)),
            *("--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"),
        ),
        port=port,
        env={
            **bench.libraries,
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MODE": "PRODUCTION",
        },
        leaves_out={
            "S6": "without a database it answers an unknown key with 400",
            "S7": "a round would take over a minute",
        },
        start_seconds_max=120,
    )


def _says(bench: Bench, program: str, flag: str) -> str:
    """The first version number that the program tells of itself."""
    told = subprocess.run(  # noqa: S603  # installed peers
        [program, flag], env=os.environ | bench.libraries, capture_output=True, check=True, text=True
    )
    version = re.search(r"\d+(?:\.\d+)+", told.stdout + told.stderr)
    return version[0] if version else "unknown"


PEERS: Mapping[str, Callable[[Bench], Target | Absent]] = {
    "nginx": nginx,
    "nginx-tls": nginx_tls,
    "haproxy": haproxy,
    "vllm-router": vllm_router,
    "sglang-router": sglang_router,
    "smg": smg,
    "litellm": litellm,
}
