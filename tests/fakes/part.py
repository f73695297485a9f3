"""A stand-in for one child of `inferfly up`: `part.py MODE [FOLDER]`. Speaks the real protocols, does no work.

serve    ready at once, ends on SIGTERM         deaf     as serve, but deaf to SIGTERM
refuse   ends with an operator's message        flaky    ready, ends soon after; ready for good the third time
crash    tells cause and cure, exit code 70     broken   tells cause and cure, exit code 78
mute     ready, one sign of life, then none     slow     never ready
control  asks `up` for its engines; answers for keys on FOLDER/run/control.sock
nokey    as control, but a key exists
litter   as serve, and leaves a process behind when it ends
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from appliance import notify
from appliance.engine.process import ProcessSupervisor

KEY: dict[str, Any] = {
    "key_id": "AAAAAAAAAA",
    "origin": "AAAAAAAAAA",
    "account": "default",
    "name": "first",
    "state": "active",
    "created_at_ms": 1,
    "expires_at_ms": 2,
    "revoked_at_ms": None,
    "last_used_day": None,
    "models": [],
    "endpoints": [],
    "networks": [],
}
PLAINTEXT = "ifk_live_AAAAAAAAAA_plaintext"

mode = sys.argv[1]
folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer([KEY] if mode == "nokey" else [])

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(KEY | {"key": PLAINTEXT})

    def answer(self, body: Any) -> None:
        raw = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the stdlib's name
        pass


async def ask_for_engines() -> None:
    supervisor = ProcessSupervisor(folder / "run" / "up.sock")
    for name in await supervisor.states():
        await supervisor.start(name)


def control() -> None:
    server = socketserver.ThreadingUnixStreamServer(str(folder / "run" / "control.sock"), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    asyncio.run(ask_for_engines())


def nth_life() -> int:
    lives = Path(os.environ["NOTIFY_SOCKET"] + ".lives")
    count = int(lives.read_text()) + 1 if lives.exists() else 1
    lives.write_text(str(count))
    return count


def fail(code: int) -> None:
    notify.status(state="failed", cause="it is broken.", cure="Mend it.")
    sys.exit(code)


def main() -> None:
    if mode == "refuse":
        print("inferfly: The database is of another shape. Restore it.", file=sys.stderr, flush=True)
        sys.exit(74)
    if mode in {"crash", "broken"}:
        fail(70 if mode == "crash" else 78)
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode in {"control", "nokey"}:
        control()
    if mode == "litter":
        sleep = [sys.executable, "-c", "import time; time.sleep(3600)", str(folder)]
        subprocess.Popen(sleep, start_new_session=True)
    if mode != "slow":
        notify.ready()
    if mode == "mute":
        notify.watchdog()
    if mode == "flaky" and nth_life() < 3:
        sys.exit(9)
    while True:
        signal.pause()


main()
