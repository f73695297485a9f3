"""A stand-in for vLLM at the process boundary: takes the runner's command line, serves what the runner asks.

Run by a small script that poses as the engine's Python: `vllm.py MODE -P LAUNCHER NAME serve WEIGHTS --uds=SOCKET...`.

serve       idle and healthy                      stubborn   as serve, and deaf to SIGTERM
busy        one request runs, tokens keep coming  stall      one request runs, no token comes
mute        healthy, but completes no token       shy        never healthy
crash       raises while it loads                 brittle    ends by itself soon after it is ready
leave       starts a helper in its session that outlives it
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

CRASH = "ValueError: Model architectures ['NoSuchForCausalLM'] are not supported for now."

mode = sys.argv[1]
started = time.monotonic()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer(503 if mode == "shy" else 200, b"")
        else:
            self.answer(200, metrics())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(500 if mode == "mute" else 200, b"{}")
        if mode == "brittle":
            threading.Timer(0.3, os._exit, (7,)).start()

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the stdlib's name
        pass


def metrics() -> bytes:
    running = 1 if mode in {"busy", "stall"} else 0
    tokens = time.monotonic() - started if mode == "busy" else 1
    return (
        f'vllm:num_requests_running{{engine="0"}} {running}.0\n'
        f'vllm:generation_tokens_total{{engine="0"}} {tokens:.3f}\n'
    ).encode()


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def main() -> None:
    uds = next(flag.removeprefix("--uds=") for flag in sys.argv if flag.startswith("--uds="))
    print(json.dumps({"environment": sorted(os.environ)}), flush=True)
    if mode == "crash":
        raise SystemExit(f"Traceback (most recent call last):\n{CRASH}")
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "leave":
        subprocess.Popen(["sleep", "3600"])
    Server(uds, Handler).serve_forever()


main()
