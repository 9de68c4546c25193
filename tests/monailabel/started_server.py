"""The server as a user starts it: a process of its own on the loopback, with folders that can be looked through."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parents[2]
OFFLINE = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1,localhost"}


class StartedServer:
    """A server process and how to talk to it.

    Args:
        port: its port on the loopback.
        process: the process.
        log: file of what it prints.
    """

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port, self.process, self.log = port, process, log
        self.url = f"http://127.0.0.1:{port}"

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """A request as a well-behaved client sends it."""
        return requests.request(method, self.url + path, timeout=60, **options)

    def raw(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Any:
        """A request whose target and headers are sent as they are: (status, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            sent = {"Host": f"127.0.0.1:{self.port}", "Content-Length": str(len(body)), **(headers or {})}
            for name, value in sent.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def find_port() -> int:
    """A port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def command(studies: str, port: int, conf: Mapping[str, str], *more: str) -> list[str]:
    """The command line of the server."""
    given = [word for key, value in conf.items() for word in ("--conf", key, value)]
    start = [sys.executable, "-m", "monai_diffclf.monailabel", "start_server", "--studies", studies]
    return [*start, "--port", str(port), *given, *more]


def environment(home: Path, **more: str) -> dict[str, str]:
    """Environment of a server that has a home and temporary folder of its own and no way to the internet."""
    (home / "temporary").mkdir(parents=True, exist_ok=True)
    own = {"HOME": str(home), "TMPDIR": str(home / "temporary"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **OFFLINE, **own, **more}


@contextmanager
def started(studies: str, home: Path, conf: Mapping[str, str], *more: str, **settings: str) -> Iterator[StartedServer]:
    """Start a server, wait until it answers, and stop it at the end."""
    home.mkdir(parents=True, exist_ok=True)
    port, log = find_port(), home / "server.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command(studies, port, conf, *more),
            stdout=output,
            stderr=output,
            cwd=home,
            env=environment(home, **settings),
        )
    server = StartedServer(port, process, log)
    try:
        wait_for(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(server: StartedServer, seconds: float = 180) -> None:
    """Wait until a server answers; where all cores are busy, loading PyTorch takes its time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.process.poll() is None:
        try:
            requests.get(f"{server.url}/auth/", timeout=5)
            return
        except requests.RequestException:
            time.sleep(0.1)
    raise RuntimeError(f"the server does not answer: {server.log.read_text()[-3000:]}")


def multipart(name: str, filename: str, content: bytes, **fields: str) -> tuple[dict[str, str], bytes]:
    """Headers and body of a form with a file whose name is sent as it is."""
    lines = [b""]
    for key, value in fields.items():
        lines.append(f'--edge\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode())
    head = f'--edge\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
    lines.append(head.encode() + content + b"\r\n--edge--\r\n")
    return {"Content-Type": "multipart/form-data; boundary=edge"}, b"".join(lines)


def detail(response: requests.Response) -> str:
    """The reason in a refusal."""
    return str(json.loads(response.text)["detail"])
