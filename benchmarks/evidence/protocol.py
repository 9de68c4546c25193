"""The protocol as programs read it, its hash, and whether it is committed as it lies here."""

from __future__ import annotations

import hashlib
import json
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FILE = Path(__file__).with_name("protocol.json")
RESULTS = ROOT / "benchmarks" / "results" / "evidence"


@lru_cache
def protocol() -> dict[str, Any]:
    """The content of ``protocol.json``."""
    content: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return content


def content_hash(content: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys and its white space.

    Example:
        >>> content_hash({"b": 1, "a": [2]}) == content_hash(json.loads('{"a":[2],   "b":1}'))
        True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def protocol_hash() -> str:
    """The hash that result files name."""
    return content_hash(protocol())


def data_settings(name: str) -> dict[str, Any]:
    """What the protocol says of a data set.

    Raises:
        ValueError: for a name that it does not hold.
    """
    known: dict[str, dict[str, Any]] = protocol()["data"]
    if name not in known:
        raise ValueError(f"data: expected one of {', '.join(known)}, got {name!r}")
    return known[name]


def committed(root: Path = ROOT) -> str:
    """The commit that is checked out, after it is found to hold the protocol as it lies here.

    Raises:
        ValueError: when the protocol is not committed or differs from what is.
    """
    commit = _git(root, "rev-parse", "HEAD").strip()
    for name in ("docs/protocol.md", "benchmarks/evidence/protocol.json"):
        if _git(root, "show", f"{commit}:{name}") != (root / name).read_text(encoding="utf-8"):
            raise ValueError(f"{name}: expected it as in commit {commit[:8]}, it was edited since; commit it first")
    return commit


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"protocol: expected to find it in a commit of {root}; git says: {done.stderr.strip()}")
    return done.stdout
