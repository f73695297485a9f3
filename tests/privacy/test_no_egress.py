"""The appliance runs where there is no network but loopback, and the kernel counts every attempt to leave."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.appliance_under_test import Appliance
from tests.models import TINY, engine_python, tiny_catalog
from tests.privacy.alone import ATTEMPTS, attempts

ALONE = Path(__file__).with_name("alone.py")
NONE = dict.fromkeys(ATTEMPTS, 0)


@pytest.fixture(scope="module")
def hermit() -> Iterator[Appliance]:
    """A whole appliance, from its start on in a network of its own."""
    under = (sys.executable, "-P", str(ALONE))
    with Appliance(tiny_catalog(), engine_python(), under=under) as appliance:
        yield appliance


def ask(appliance: Appliance, **more: object) -> httpx.Response:
    """Through the gateway's unix socket: from here there is no other way in."""
    transport = httpx.HTTPTransport(uds=str(appliance.home / "run" / "gateway.sock"))
    headers = {"Authorization": f"Bearer {appliance.key}"}
    body = {"model": TINY, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8} | more
    with httpx.Client(transport=transport, timeout=60) as client:
        return client.post("http://box/v1/chat/completions", headers=headers, json=body)


def test_a_running_appliance_opens_no_connection_to_the_outside(hermit: Appliance) -> None:
    whole, stream = ask(hermit), ask(hermit, stream=True)

    assert (whole.status_code, stream.status_code) == (200, 200)
    assert whole.json()["usage"]["completion_tokens"] == 8
    assert stream.text.endswith("data: [DONE]\n\n")
    assert {process.title: attempts(process.pid) for process in hermit.processes()} == {
        process.title: NONE for process in hermit.processes()
    }


def test_its_public_port_serves_there_too(hermit: Appliance) -> None:
    fetch = (
        f"import urllib.request as u; print(u.urlopen('{hermit.base_url.removesuffix('v1')}readyz').read())"
    )

    done = subprocess.run(
        ["nsenter", f"--net=/proc/{hermit.pid}/ns/net", sys.executable, "-c", fetch],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert '{"ready":true}' in done.stdout


@pytest.mark.parametrize(
    ("attempt", "counter"),
    [
        ("s.socket().connect(('192.0.2.1', 443))", "Ip OutNoRoutes"),
        ("s.socket(s.AF_INET, s.SOCK_DGRAM).connect(('8.8.8.8', 80))", "Ip OutNoRoutes"),
        ("s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))", "Ip OutNoRoutes"),
        ("s.socket(s.AF_INET6).connect(('2001:db8::1', 443))", "Ip6 OutNoRoutes"),
        ("s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b'x', ('127.0.0.53', 53))", "Udp NoPorts"),
    ],
    ids=["TCP", "UDP", "a datagram", "TCP over IPv6", "a local resolver"],
)
def test_an_attempt_to_leave_is_counted(attempt: str, counter: str) -> None:
    """The proof above can fail: each way out shows in a counter of the kernel's."""
    program = f"""
import contextlib, json, os, socket as s
from tests.privacy.alone import attempts
before = attempts("self")
with contextlib.suppress(OSError):
    {attempt}
print(json.dumps([before, attempts("self")]))
"""

    done = subprocess.run(
        [sys.executable, ALONE, sys.executable, "-c", program],
        env={"PYTHONPATH": str(ALONE.parents[2])},
        capture_output=True,
        check=True,
        timeout=30,
    )

    before, after = json.loads(done.stdout)
    assert before == NONE
    assert after == NONE | {counter: 1}
