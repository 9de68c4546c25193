"""The ledger of the openings of test sets: no test image is read before its line is written."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock

from benchmarks.evidence.protocol import RESULTS, ROOT, committed, content_hash, data_settings, protocol, protocol_hash
from monai_diffclf.storage.atomic_file import replace_text

LEDGER = RESULTS / "openings.json"


@dataclass(frozen=True)
class Opening:
    """One line of the ledger: who looked at which test images, when, and with what.

    Args:
        number: its place in the ledger, from 1.
        data: data set of the protocol.
        split: "test" or "fold0" to "fold4".
        method: method of the protocol.
        seed: seed of the training.
        condition: comparison and strength, such as "primary" or "learning_curve/0.05".
        settings: hash of the method's settings.
        time: UTC, to the second.
        commit: what was checked out.
        protocol: hash of the protocol.
        looks: how many lines of this data set, split, method, seed and condition there are up to this one.
        repeat: whether it is not the first of them.
        ledger: the file that holds it; not part of the line.
    """

    number: int
    data: str
    split: str
    method: str
    seed: int
    condition: str
    settings: str
    time: str
    commit: str
    protocol: str
    looks: int
    repeat: bool
    ledger: Path

    def line(self) -> dict[str, Any]:
        """What stands in the ledger."""
        content = asdict(self)
        del content["ledger"]
        return content

    def check(self) -> None:
        """Raise a ValueError where the ledger does not hold this opening."""
        lines = read_ledger(self.ledger)
        if not 0 < self.number <= len(lines) or lines[self.number - 1] != self.line():
            raise ValueError(f"opening: expected line {self.number} of {self.ledger} to be it; make it by open_test")


def read_ledger(path: Path = LEDGER) -> list[dict[str, Any]]:
    """The lines of a ledger, the oldest first.

    Raises:
        ValueError: when the file is not one.
    """
    if not path.is_file():
        return []
    lines: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    names = {field.name for field in fields(Opening)} - {"ledger"}
    for number, line in enumerate(lines, 1):
        if set(line) != names or line["number"] != number:
            raise ValueError(f"{path}: expected line {number} to have the number and the fields of an opening")
    return lines


def open_test(
    data: str,
    method: str,
    seed: int,
    settings: Any,
    *,
    split: str = "test",
    condition: str = "primary",
    ledger: Path = LEDGER,
    root: Path = ROOT,
) -> Opening:
    """Write a line to the ledger and give the right to read the test images once it is on disk.

    Args:
        data: data set of the protocol.
        method: method of the protocol, or "other_kinds" and the like where images serve without labels.
        seed: seed of the training.
        settings: all that the method was told, a JSON value; only its hash is kept.
        split: "test" or a fold.
        condition: what is compared.
        ledger: the file.
        root: the project, where the protocol must be committed as it lies there.

    Raises:
        ValueError: for a name that the protocol does not hold, or while the protocol is not committed.
    """
    data_settings(data)
    if method not in protocol()["methods"]:
        raise ValueError(f"method: expected one of {', '.join(protocol()['methods'])}, got {method!r}")
    commit = committed(root)
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(ledger.with_suffix(".lock")):
        lines = read_ledger(ledger)
        same = {"data": data, "split": split, "method": method, "seed": seed, "condition": condition}
        looks = 1 + sum(all(line[name] == value for name, value in same.items()) for line in lines)
        opening = Opening(
            number=len(lines) + 1,
            settings=content_hash(settings)[:16],
            time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            commit=commit,
            protocol=protocol_hash(),
            looks=looks,
            repeat=looks > 1,
            ledger=ledger,
            **same,
        )
        rows = [json.dumps(line) for line in [*lines, opening.line()]]
        replace_text(ledger, "[\n" + ",\n".join(rows) + "\n]\n")
    return opening
