# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Who may ask: what is checked of every request before any other code sees it."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from typing import Any

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .options import ServerOptions, is_loopback
from .page_files import PAGE_PATHS

__all__ = ["Guard"]

SMALL_BODY = 1_000_000  # bytes of a request that brings no file
OPEN_PATHS = ("/auth", "/auth/", "/auth/token", *PAGE_PATHS)  # where a client asks whether and how to log in

# A page of another site must neither show what the server sends, nor guess its kind, nor keep it.
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware that lets a request pass if its way in, host, origin, token, path and size are as expected.

    - Without a token only connections to the loopback are answered, whatever address the server listens at.
    - The Host header names the loopback, or a host that was allowed: a name of another site that leads here is refused.
    - Requests that a browser sends for a page of another site are refused (Origin, Sec-Fetch-Site, Referer).
    - The path has no ``..``, encoded separators or control characters.

    Args:
        app: the application.
        options: token, hosts and size.
        origins: origins of web pages that may use the server all the same, MONAI_LABEL_CORS_ORIGINS.
        login: whether MONAI Label's own login protects the routes.
    """

    def __init__(self, app: ASGIApp, options: ServerOptions, origins: Iterable[str] = (), login: bool = False) -> None:
        self.app, self.options, self.login = app, options, login
        self.origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer why not."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        limit = self._limit(headers)
        refusal = self._refuse(scope, headers) or _refuse_length(headers, limit)
        if refusal:
            status, reason = refusal
            more = {"www-authenticate": "Bearer"} if status == 401 else None
            await JSONResponse({"detail": reason}, status, more)(scope, receive, _with_headers(send))
            return
        await self.app(scope, _limited(receive, limit), _with_headers(send))

    def _refuse(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._knows(_host_name(hosts[0]), scope):
            reason = f"Host: expected this server's address, got {hosts}; allow a name with --conf allowed_hosts NAME"
            return 421, reason
        if reason := self._refuse_origin(headers, hosts[0]):
            return 403, reason
        if reason := _refuse_path(scope):
            return 400, reason
        return self._refuse_caller(scope, headers)

    def _knows(self, name: str | None, scope: Scope) -> bool:
        if name is None:
            return False
        # An address, unlike a name, cannot be made to lead here: with a token it may be any of this machine's.
        own = (scope.get("server") or ("",))[0]
        return is_loopback(name) or name in self.options.allowed_hosts or (name == own and not is_loopback(own))

    def _refuse_origin(self, headers: Headers, host: str) -> str:
        """Why a request that a browser made for a page is refused; empty if it is not."""
        asked_by = headers.getlist("origin")
        if any(origin.lower() in self.origins for origin in asked_by):
            return ""
        own = {f"http://{host}".lower(), f"https://{host}".lower()}
        if any(origin.lower() not in own for origin in asked_by):
            return f"Origin: expected a client on this machine or a page of this server, got {asked_by}"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return f"Sec-Fetch-Site: expected same-origin, got {headers['sec-fetch-site']}"
        referer = headers.get("referer")
        if referer and not any(referer.lower().startswith(f"{origin}/") for origin in own):
            return "Referer: expected a page of this server"
        return ""

    def _refuse_caller(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        if self.options.token:
            scheme, _, shown = headers.get("authorization", "").partition(" ")
            same = hmac.compare_digest(shown.strip().encode(), self.options.token.encode())
            if scope["path"] in OPEN_PATHS or (scheme.lower() == "bearer" and same):
                return None
            return 401, "Authorization: expected Bearer and the server's token"
        if self.login or is_loopback((scope.get("server") or ("",))[0]):
            return None
        return 403, "this server has no token, and answers on the loopback only; start it with --conf token_file FILE"

    def _limit(self, headers: Headers) -> int:
        kind = headers.get("content-type", "").lower()
        return int(self.options.max_upload_mb * 1e6) if kind.startswith("multipart/form-data") else SMALL_BODY


def _host_name(host: str) -> str | None:
    """The name in a Host header without its port, in small letters; None if it is none."""
    match = re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", host.lower())
    return match[1].strip("[]").removesuffix(".") if match else None


def _refuse_path(scope: Scope) -> str:
    raw = scope.get("raw_path") or scope["path"].encode()
    path = scope["path"]
    wrong = re.search(rb"%2f|%5c|%25|%00", raw, re.IGNORECASE) or "\\" in path or not path.isprintable()
    if wrong or any(part in (".", "..") for part in path.split("/")):
        return "path: expected plain names between slashes"
    return ""


def _refuse_length(headers: Headers, limit: int) -> tuple[int, str] | None:
    length = headers.get("content-length")
    if length is not None and not length.isdecimal():
        return 400, f"Content-Length: expected a number, got {length!r}"
    return (413, _too_long(limit)) if length is not None and int(length[:20]) > limit else None


def _too_long(limit: int) -> str:
    return f"request: expected at most {limit:,} bytes; more can be allowed with --conf max_upload_mb"


def _limited(receive: Receive, limit: int) -> Receive:
    """Count what comes: a request need not say its length, or may lie."""
    seen = 0

    async def count() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise HTTPException(413, _too_long(limit))
        return message

    return count


def _with_headers(send: Send) -> Send:
    async def add(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            policy = headers.get("content-security-policy")  # that of the reading page, which runs its own scripts
            headers.update(_HEADERS | ({"content-security-policy": policy} if policy else {}))
        await send(message)

    return add
