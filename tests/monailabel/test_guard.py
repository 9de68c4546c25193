"""Who may ask."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

TOKEN = "a-token-of-more-than-thirty-two-signs"  # noqa: S105
OWN = ("127.0.0.1", 8000)


def ask(
    headers: dict[str, str] | None = None,
    server: tuple[str, int] | None = OWN,
    path: str = "/info/",
    kind: str = "http",
    **options: Any,
) -> int:
    """The status of a request: 200 if it gets past the guard."""
    from monai_diffclf.monailabel.guard import Guard
    from monai_diffclf.monailabel.options import ServerOptions

    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    origins, login = options.pop("origins", ()), options.pop("login", False)
    given = {"host": "127.0.0.1:8000", **(headers or {})}
    raw = [(name.encode(), value.encode()) for name, value in given.items() if value is not None]
    scope = {"type": kind, "method": "GET", "path": path, "raw_path": path.encode(), "headers": raw, "server": server}
    asyncio.run(Guard(app, ServerOptions(**options), origins, login)(scope, receive, send))
    return int(sent[0].get("status", sent[0].get("code")))


@pytest.fixture(autouse=True)
def _needs(monailabel: None) -> None:
    """MONAI Label."""


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "localhost:8000", "[::1]:8000", "LOCALHOST", "localhost."]
)
def test_names_of_the_loopback(host: str) -> None:
    assert ask({"host": host}) == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1@evil.example",
        "192.0.2.1",
        "a b",
        "127.0.0.1:8000:1",
        "[::1",
    ],
)
def test_other_hosts(host: str) -> None:
    assert ask({"host": host}) == 421
    assert ask({"host": host}, token=TOKEN) == 421


def test_allowed_host() -> None:
    assert ask({"host": "hospital.example:8000"}, allowed_hosts=("hospital.example",)) == 200


def test_address_of_the_machine_itself() -> None:
    shown = {"authorization": f"Bearer {TOKEN}"}
    own = ("192.0.2.7", 8000)
    assert ask({"host": "192.0.2.7:8000", **shown}, own, token=TOKEN) == 200
    assert ask({"host": "192.0.2.8:8000", **shown}, own, token=TOKEN) == 421


@pytest.mark.parametrize("server", [("192.0.2.7", 8000), ("0.0.0.0", 1), ("/tmp/socket", 0), None])  # noqa: S104, S108
def test_without_a_token_only_the_loopback_is_answered(server: Any) -> None:
    assert ask({"host": "localhost"}, server) == 403
    assert ask({"host": "localhost"}, server, login=True) == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"origin": "HTTP://127.0.0.1:8000", "sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"referer": "http://127.0.0.1:8000/info/"}, 200),
        ({"origin": "http://127.0.0.1:8001"}, 403),
        ({"origin": "http://localhost:8000"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"referer": "http://127.0.0.1:8000.evil.example/"}, 403),
    ],
)
def test_pages_of_other_sites(headers: dict[str, str], status: int) -> None:
    assert ask(headers) == status
    if "origin" in headers and status == 403:
        assert ask(headers, origins=[headers["origin"] or "x"]) == (200 if headers["origin"] else 403)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (TOKEN, 401),
        (f"Basic {TOKEN}", 401),
        ("Bearer", 401),
    ],
)
def test_token(header: str, status: int) -> None:
    assert ask({"authorization": header}, token=TOKEN) == status


def test_the_way_to_log_in_is_open() -> None:
    assert ask(path="/auth/", token=TOKEN) == ask(path="/auth/token", token=TOKEN) == 200
    assert ask(path="/auth/token/valid", token=TOKEN) == 401
    assert ask(path="/auth/../info/", token=TOKEN) == 400


@pytest.mark.parametrize(
    "path", ["/a/../b", "/..", "/a/%2e%2e%2f", "/a%2fb", "/a%5cb", "/a%00", "/a\\b", "/a\nb", "/%252e"]
)
def test_paths(path: str) -> None:
    assert ask(path=path) == 400


def test_websockets_are_closed() -> None:
    assert ask(kind="websocket") == 1008


@pytest.mark.parametrize(
    ("length", "status"), [("1000001", 413), ("1000000", 200), ("-1", 400), ("9" * 400, 413), ("x", 400)]
)
def test_length(length: str, status: int) -> None:
    assert ask({"content-length": length}) == status
