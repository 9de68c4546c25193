"""Hold the numbers of README and docs to the files that they come from.

    python -m tools.check_numbers             # says which passages differ, exit code 1 where one does
    python -m tools.check_numbers --write     # puts the files' numbers into the documents
    python -m tools.check_numbers --unchecked # lists the numbers with decimals that no passage covers

``tools/numbers.txt`` names result files and, for each document, passages of it with the places of their numbers:
``{name#key/key:FORMAT}`` is a number of a file, ``ci FORMAT`` a value with its interval, and ``100*`` or ``1/`` before
the format changes it. Passages stand in the order of their document; white space is free.
"""

from __future__ import annotations

import argparse
import json
import re
import string
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PASSAGES = Path(__file__).with_name("numbers.txt")
_NUMBER = r"-?\d+(?:[.,]\d+)*"


@dataclass(frozen=True)
class Passage:
    """A passage of a document: what it should say, and a pattern that finds it whatever its numbers are."""

    document: str
    text: str
    pattern: re.Pattern[str]


def read_passages(path: Path = PASSAGES) -> list[Passage]:
    """The passages with the numbers of their files.

    Raises:
        ValueError: naming the line, when a file or a number is not there.
    """
    files: dict[str, Path] = {}
    document, passages = "", []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if heading := re.fullmatch(r"\[(.+)\]", line):
            document = heading[1]
        elif document == "files" and line:
            name, _, file = line.partition(" = ")
            files[name] = ROOT / file
        elif line and not line.startswith("//"):
            try:
                passages.append(_passage(document, line, files))
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise ValueError(f"{path.name}, line {number}: {error!r} in {line}") from error
    return passages


def _passage(document: str, line: str, files: dict[str, Path]) -> Passage:
    text, pattern = "", ""
    for literal, field, spec, _ in string.Formatter().parse(line):
        text += literal
        pattern += r"\s+".join(map(re.escape, re.split(r"\s+", literal)))
        if field is not None:
            name, _, keys = field.partition("#")
            text += shown(_look_up(_read(files[name]), keys), spec or "")
            pattern += rf"{_NUMBER} \({_NUMBER} to {_NUMBER}\)" if (spec or "").startswith("ci ") else _NUMBER
    return Passage(document, text, re.compile(pattern.replace(" ", r"\s+")))


@lru_cache
def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _look_up(content: Any, keys: str) -> Any:
    for key in keys.split("/"):
        content = content[int(key) if isinstance(content, list) else key]
    return content


def shown(value: Any, spec: str) -> str:
    """A number as a document writes it.

    Example:
        >>> shown({"value": 0.04, "low": -0.0002, "high": 0.1}, "ci 100*.1f"), shown(0.25, "1/.0f"), shown(3, "")
        ('4.0 (0.0 to 10.0)', '4', '3')
    """
    if spec.startswith("ci "):
        low, middle, high = (shown(value[part], spec[3:]) for part in ("low", "value", "high"))
        return f"{middle} ({low} to {high})"
    if isinstance(value, dict):
        value = value["value"]
    if spec.startswith("100*"):
        value, spec = 100 * value, spec[4:]
    elif spec.startswith("1/"):
        value, spec = 1 / value, spec[2:]
    text = format(value, spec)
    return text.removeprefix("-") if not text.strip("-0.") else text


def _matches(passages: list[Passage]) -> Iterator[tuple[Passage, re.Match[str] | None]]:
    """Each passage where it stands in its document: behind the one before, as tables have rows of the same name."""
    ends: dict[str, int] = {}
    for passage in passages:
        text = (ROOT / passage.document).read_text(encoding="utf-8")
        match = passage.pattern.search(text, ends.get(passage.document, 0))
        if match:
            ends[passage.document] = match.end()
        yield passage, match


def faults(passages: list[Passage]) -> list[str]:
    """What documents say otherwise than their files."""
    found = []
    for passage, match in _matches(passages):
        if match is None:
            found.append(f"{passage.document} lacks the passage, or has it in another order: {passage.text!r}")
        elif match[0].split() != passage.text.split():
            found.append(f"{passage.document} says {match[0]!r}, the files say {passage.text!r}")
    return found


def write(passages: list[Passage]) -> None:
    """Put the files' numbers into the documents, without touching their line breaks."""
    changes: dict[str, list[tuple[int, int, str]]] = {}
    for passage, match in _matches(passages):
        if match:
            changes.setdefault(passage.document, []).append((*match.span(), _refill(match[0], passage.text)))
    for document, places in changes.items():
        text = (ROOT / document).read_text(encoding="utf-8")
        for start, end, new in reversed(places):
            text = text[:start] + new + text[end:]
        (ROOT / document).write_text(text, encoding="utf-8")


def _refill(old: str, text: str) -> str:
    """The words of `text` with the white space of `old`."""
    spaces = iter(re.findall(r"\s+", old))
    return re.sub(r"\s+", lambda match: next(spaces, match[0]), text)


def unchecked(document: str, passages: list[Passage]) -> list[str]:
    """Numbers with decimals in a document that no passage covers, outside code, links and names."""
    text = (ROOT / document).read_text(encoding="utf-8")
    spans = [match.span() for passage, match in _matches(passages) if match and passage.document == document]
    for start, end in reversed(spans):
        text = text[:start] + text[end:]
    text = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", " ", text, flags=re.DOTALL)
    return re.findall(r"(?<![\w.])-?\d+\.\d+(?!\w)", text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--unchecked", action="store_true")
    options = parser.parse_args()
    passages = read_passages()
    if options.write:
        write(passages)
    if options.unchecked:
        for document in dict.fromkeys(passage.document for passage in passages):
            print(f"{document}: {', '.join(unchecked(document, passages)) or 'none'}")
    found = faults(passages)
    print(
        "\n".join(found) or f"{len(passages)} passages say what their files say",
        file=sys.stderr if found else sys.stdout,
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
