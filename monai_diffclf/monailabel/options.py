# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What can be set with ``--conf KEY VALUE``, and whether a server may listen where it is told to."""

from __future__ import annotations

import difflib
import ipaddress
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..data.patients import patient_reader

__all__ = ["ServerOptions", "is_loopback", "read_token"]

MIN_TOKEN = 32
OWN_OF_MONAI_LABEL = ("server_mode",)


@dataclass(frozen=True)
class ServerOptions:
    """The app's settings.

    Args:
        bundles: folders or names of the bundles; none for the pneumonia bundle, where it is found.
        token: what a request must show; empty for none, which is for this machine's own clients only.
        allowed_hosts: names beside the loopback's by which clients may call the server.
        max_upload_mb: size of a request at most, in 10^6 bytes.
        max_waiting: inferences that may wait for their turn.
        max_seconds: time for one inference, waiting included.
        patient_pattern: regular expression with one group that finds the patient in an image's file name.

    Example:
        >>> ServerOptions.from_conf({"max_waiting": "3"}).max_waiting
        3
    """

    bundles: tuple[str, ...] = ()
    token: str = ""
    allowed_hosts: tuple[str, ...] = ()
    max_upload_mb: float = 200.0
    max_waiting: int = 8
    max_seconds: float = 300.0
    patient_pattern: str = ""

    @classmethod
    def from_conf(cls, conf: Mapping[str, str] | None) -> ServerOptions:
        """Read MONAI Label's ``conf``.

        Raises:
            ValueError: naming the key, what was expected and what came.
        """
        given = {key: str(value) for key, value in (conf or {}).items() if key not in OWN_OF_MONAI_LABEL}
        known = [
            "bundle",
            "token_file",
            "allowed_hosts",
            "max_upload_mb",
            "max_waiting",
            "max_seconds",
            "patient_pattern",
        ]
        if unknown := sorted(given.keys() - set(known)):
            close = difflib.get_close_matches(unknown[0], known, 1)
            raise ValueError(
                f"conf: expected one of {known}, got {unknown}{f'; did you mean {close[0]}?' if close else ''}"
            )
        return cls(
            bundles=_split(given.get("bundle", "")),
            token=read_token(given["token_file"]) if "token_file" in given else "",
            allowed_hosts=_split(given.get("allowed_hosts", "").lower()),
            max_upload_mb=_positive(given, "max_upload_mb", cls.max_upload_mb),
            max_waiting=int(_positive(given, "max_waiting", cls.max_waiting)),
            max_seconds=_positive(given, "max_seconds", cls.max_seconds),
            patient_pattern=_pattern(given.get("patient_pattern", "")),
        )

    def check_host(self, host: str, *, login: bool) -> None:
        """Whether the server may listen at an address.

        Args:
            host: address or name.
            login: whether MONAI Label's own login is switched on.

        Raises:
            ValueError: when others could reach it without a token or login.
        """
        if not (is_loopback(host) or self.token or login):
            raise ValueError(
                f"host: expected 127.0.0.1, or a token for other machines, got {host}; add --conf token_file FILE, "
                'for instance of: (umask 077; python -c "import secrets; print(secrets.token_urlsafe())" > FILE)'
            )


def is_loopback(host: str | None) -> bool:
    """Whether an address is this machine's own.

    Example:
        >>> [is_loopback(host) for host in ("localhost", "127.0.0.2", "::1", "0.0.0.0", "example.org")]
        [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _pattern(text: str) -> str:
    if text:
        patient_reader(text)
    return text


def read_token(name: str) -> str:
    """The token in a file.

    Raises:
        ValueError: when there is no such file, others can read it, or it holds no token.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        raise ValueError(f"token_file: expected a file with a token, but there is none at {path}")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ValueError(f"token_file: others can read {path}; run chmod 600 on it")
    token = path.read_text(errors="replace").strip()
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"token_file: expected one word of at least {MIN_TOKEN} letters, digits and signs in {path}, got "
            f"{len(token)} characters"
        )
    return token


def _positive(given: Mapping[str, str], key: str, default: float) -> float:
    text = given.get(key, str(default))
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9 or (key == "max_waiting" and value != int(value)):
        raise ValueError(f"{key}: expected a positive number, got {text!r}")
    return value
