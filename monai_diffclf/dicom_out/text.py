# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Text and headers as DICOM's value representations allow them, whatever a file or a user has written."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from pydicom.datadict import dictionary_VM

__all__ = ["clean_header", "is_uid", "vr_text"]

# Characters that a value may have (PS3.5, table 6.2-1); of a person's name, each of its three groups.
_LONGEST = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "PN": 64, "ST": 1024, "LT": 10240, "UC": 2**32 - 2, "UT": 2**32 - 2}
_LINES = ("ST", "LT", "UT")  # may have several lines and a backslash
_PATTERNS = {
    "AS": r"\d{3}[DWMY]",
    "DA": r"\d{8}",
    "TM": r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?",
    "DT": r"\d{4,14}(\.\d{1,6})?([+-]\d{4})?",
    "IS": r"[+-]?\d{1,11}",
    "DS": r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?",
    "UI": r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*",
}
_FORMATS = {"DA": "%Y%m%d", "TM": "%H%M%S"}
_INTEGERS = range(-(2**31), 2**31)  # of IS
# Of ACR-NEMA, which PS3.5, 6.2 lets readers take.
_OLD_FORMS = {
    "DA": re.compile(r"(\d{4})\.(\d{2})\.(\d{2})"),
    "TM": re.compile(r"(\d{2}):(\d{2})(?::(\d{2}(?:\.\d{1,6})?))?"),
}
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "OverlayData", "WaveformData", "IconImageSequence")


def vr_text(text: object, vr: str) -> str:
    r"""Text that a value representation allows: its characters, and no more of them than it may have.

    DICOM PS3.5, 6.2: a backslash separates values, so that it becomes a slash; control characters become spaces (line
    breaks stay in ST, LT and UT); what is too long is cut. In CS letters become capitals, other characters ``_``. The
    limits are of characters; as some readers count bytes, they are kept for the bytes of UTF-8.

    Args:
        text: any text.
        vr: ``"AE"``, ``"CS"``, ``"SH"``, ``"LO"``, ``"ST"``, ``"LT"``, ``"UC"`` or ``"UT"``.

    Raises:
        ValueError: for another value representation.

    Example:
        >>> vr_text("a\\b\x1b[2J ", "LO"), vr_text("chest pa", "CS"), len(vr_text("x" * 99, "SH"))
        ('a/b [2J', 'CHEST PA', 16)
    """
    if vr not in _LONGEST or vr == "PN":
        raise ValueError(f"vr: expected one of {sorted(set(_LONGEST) - {'PN'})}, got {vr!r}")
    whole = _allowed(str(text), vr)
    return whole.encode(errors="replace")[: _LONGEST[vr]].decode(errors="ignore").strip()


def _allowed(text: str, vr: str) -> str:
    """Text without characters that a value representation does not allow."""
    keep = "\n" if vr in _LINES else ""
    plain = "".join(c if c.isprintable() or c in keep else " " for c in text.replace("\r\n", "\n"))
    if vr == "CS":
        plain = re.sub(r"[^A-Z0-9 _]", "_", plain.upper())
    return (plain if vr in _LINES else plain.replace("\\", "/")).strip()


def is_uid(value: object) -> bool:
    """Whether a value is a UID: numbers without leading zeros, separated by dots, 64 characters at most.

    Example:
        >>> is_uid("1.2.840.10008"), is_uid("1.02"), is_uid("../etc")
        (True, False, False)
    """
    text = str(value)
    return len(text) <= 64 and re.fullmatch(_PATTERNS["UI"], text) is not None


def clean_header(header: Any) -> None:
    """Make a header fit to be copied from: no private elements and no pixels, and every value as its VR allows.

    What is no date, time, number or UID where it should be one becomes empty; so does what cannot be read. Of several
    values of an element that may have one the first stays.

    Args:
        header: a pydicom data set, which is changed.
    """
    for tag in list(header.keys()):
        try:
            element = header[tag]
            if tag.is_private or element.keyword in _PIXELS:
                del header[tag]
            elif element.VR == "SQ":
                for item in element.value:
                    clean_header(item)
            elif element.VR in _LONGEST or element.VR in _PATTERNS:
                values = [_clean(each, element.VR) for each in _values(element.value)][: _most_values(tag)]
                element.value = values if len(values) > 1 else "".join(values)
        except Exception:  # pydicom raises whatever it meets in a broken element
            del header[tag]


def _values(value: Any) -> list[Any]:
    if value is None:
        return []
    several = not isinstance(value, str) and hasattr(value, "__iter__") and not hasattr(value, "family_name")
    return list(value) if several else [value]


def _most_values(tag: Any) -> int | None:
    """How many values an element may have; None where the dictionary sets no limit, or does not know it."""
    try:
        most = dictionary_VM(tag).split("-")[-1]
    except KeyError:
        return None
    return int(most) if most.isdecimal() else None


def _clean(value: Any, vr: str) -> str:
    if vr == "PN":
        return "=".join(group[: _LONGEST[vr]].strip() for group in _allowed(str(value), vr).split("=")[:3])
    if vr in _LONGEST:
        return _allowed(str(value), vr)[: _LONGEST[vr]].strip()
    text = str(getattr(value, "original_string", value)).strip()
    if old := _OLD_FORMS[vr].fullmatch(text) if vr in _OLD_FORMS else None:
        text = "".join(filter(None, old.groups()))
    if re.fullmatch(_PATTERNS[vr], text) is None or len(text) > {"UI": 64, "DT": 26}.get(vr, 16):
        return ""
    if vr == "IS" and int(text) not in _INTEGERS:
        return ""
    return text if _is_date_or_time(text, vr) else ""


def _is_date_or_time(text: str, vr: str) -> bool:
    """Whether a text of the right form is one; of another value representation it is not asked."""
    whole, form = re.split(r"[.+-]", text)[0], _FORMATS.get(vr, "%Y%m%d%H%M%S" if vr == "DT" else "")
    # A time may stop after the hour, a date with a time after the year.
    shorter = form[: len(whole) if vr == "TM" else len(whole) - 2]
    try:
        return not form or bool(datetime.strptime(whole, form if vr == "DA" else shorter))
    except ValueError:
        return False
