"""Hold the numbers of README and docs to the files that they come from.

    python -m tools.check_numbers             # says which passages differ, exit code 1 where one does
    python -m tools.check_numbers --write     # puts the files' numbers into the documents
    python -m tools.check_numbers --unchecked # lists the numbers that look measured and that no passage covers

``tools/numbers.txt`` names result files and, for each document, passages of it with the places of their numbers:
``{name#key/key:FORMAT}`` is a number of a file, ``ci FORMAT`` a value with its interval, and ``100*``, ``1e-3*`` or
``1/`` before the format changes it. Passages stand in the order of their document; white space is free. Of a CSV file
the keys are the number of the row and the column. A number that would be rounded twice is refused.

A number looks measured when it has decimals or a unit (%, times, seconds, ...). In README, guides, the bundles' cards
and the text of the notebooks each must be covered by a passage, or by a line of ``tools/not_measured.txt``: patterns of
what is a setting, a definition or quoted, or held by a test that the line names.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import string
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PASSAGES = Path(__file__).with_name("numbers.txt")
NOT_MEASURED = Path(__file__).with_name("not_measured.txt")
DOCUMENTS = ("README.md", "docs/*.md", "bundles/*/docs/README.md", "notebooks/*.ipynb")
_NUMBER = r"-?\d+(?:[.,]\d+)*(?:e[+-]\d+)?"
_UNITS = r"(?:%|times|points?|seconds?|minutes?|hours?|s|ms|h|[GMk]B|nats|bits)(?![\w-])"
_MEASURED = re.compile(
    rf"(?<![\w.,/:-])-?(?:\d[\d,]*\.\d+(?:e[+-]?\d+)?|\.\d+|\d+e[+-]?\d+|\d[\d,]*(?=\s{_UNITS}))(?![\w]|\.\d)"
)


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
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".csv":
        return [{name: _value(cell) for name, cell in row.items()} for row in csv.DictReader(text.splitlines())]
    return json.loads(text)


def _value(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def _look_up(content: Any, keys: str) -> Any:
    for key in keys.split("/"):
        content = content[int(key) if isinstance(content, list) else key]
    return content


def shown(value: Any, spec: str) -> str:
    """A number as a document writes it.

    Raises:
        ValueError: when the file's number was rounded to a five behind the digits that are shown, as 0.9495 for 0.949:
            whether to round it up again is not known.

    Example:
        >>> shown({"value": 0.04, "low": -0.0002, "high": 0.1}, "ci 100*.1f"), shown(0.25, "1/.0f"), shown(3, "")
        ('4.0 (0.0 to 10.0)', '4', '3')
    """
    if spec.startswith("ci "):
        low, middle, high = (shown(value[part], spec[3:]) for part in ("low", "value", "high"))
        return f"{middle} ({low} to {high})"
    if isinstance(value, dict):
        value = value["value"]
    _check_rounded_once(value, spec)
    if scaled := re.match(r"(1\d*(?:e-\d+)?)\*", spec):
        value, spec = float(scaled[1]) * value, spec[scaled.end() :]
    elif spec.startswith("1/"):
        value, spec = 1 / value, spec[2:]
    text = format(value, spec)
    return text.removeprefix("-") if not text.strip("-0.") else text


def _check_rounded_once(value: Any, spec: str) -> None:
    if not isinstance(value, float) or not (digits := re.search(r"\.(\d+)f$", spec)) or spec.startswith("1/"):
        return
    scaled = re.match(r"(1\d*(?:e-\d+)?)\*", spec)
    if Decimal(value) == Decimal(repr(value)):
        return  # an exact fraction, such as 0.9375 = 15 / 16
    exact = Decimal(repr(value)) * (Decimal(scaled[1]) if scaled else 1)
    if abs(exact.scaleb(int(digits[1])) % 1) == Decimal("0.5"):
        raise ValueError(f"{value} was rounded and is to be rounded again to {spec}; show fewer digits or keep more")


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


def read_text(document: str) -> str:
    """A document's text; of a notebook that of its text cells."""
    text = (ROOT / document).read_text(encoding="utf-8")
    if not document.endswith(".ipynb"):
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def read_exceptions(path: Path = NOT_MEASURED) -> dict[str, list[re.Pattern[str]]]:
    """Patterns of numbers that are not measured, by document; ``*`` is for all.

    Raises:
        ValueError: naming the line that is no pattern.
    """
    found: dict[str, list[re.Pattern[str]]] = {}
    document = "*"
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if heading := re.fullmatch(r"\[(.+)\]", line):
            document = heading[1]
        elif line and not line.startswith("//"):
            try:
                found.setdefault(document, []).append(re.compile(re.sub(r"\s+", r"\\s+", line)))
            except re.error as error:
                raise ValueError(f"{path.name}, line {number}: expected a pattern, got {line}: {error}") from error
    return found


def unchecked(document: str, passages: list[Passage], exceptions: dict[str, list[re.Pattern[str]]]) -> list[str]:
    """What looks measured in a document and is covered by no passage and no exception, outside code and links."""
    text = read_text(document)
    covered = [match.span() for passage, match in _matches(passages) if match and passage.document == document]
    for name in ("*", document):
        covered += [match.span() for pattern in exceptions.get(name, []) for match in pattern.finditer(text)]
    hidden = re.finditer(r"```.*?```|`[^`]*`|\]\([^)]*\)|https?://\S+", text, flags=re.DOTALL)
    covered += [match.span() for match in hidden]
    return [
        f"{match[0]} in {' '.join(text[max(0, match.start() - 40) : match.end() + 30].split())!r}"
        for match in _MEASURED.finditer(text)
        if not any(start <= match.start() and match.end() <= end for start, end in covered)
    ]


def documents() -> list[str]:
    """The documents whose numbers must have a file."""
    return sorted(path.relative_to(ROOT).as_posix() for pattern in DOCUMENTS for path in ROOT.glob(pattern))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--unchecked", action="store_true")
    options = parser.parse_args()
    passages = read_passages()
    if options.write:
        write(passages)
    found, exceptions = faults(passages), read_exceptions()
    for document in documents():
        loose = unchecked(document, passages, exceptions)
        if options.unchecked:
            print(f"{document}: {', '.join(loose) or 'none'}")
        else:
            found += [f"{document}: {number}: no passage or exception covers it" for number in loose]
    print(
        "\n".join(found) or f"{len(passages)} passages say what their files say",
        file=sys.stderr if found else sys.stdout,
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
