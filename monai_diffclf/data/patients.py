# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Patients: read from names of files, and kept in one split each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from .._class_names import shown
from .._patients import known_patient
from .._text_path import text_of
from .splits import SPLITS

__all__ = ["check_patients", "patient_reader", "patients_of"]


def patient_reader(pattern: str) -> Callable[[str], str]:
    r"""A function from the key of an image (its path within the data set) to its patient.

    Args:
        pattern: regular expression with one group, which is the patient; it is searched in the key.

    Raises:
        TypeError: when it is no text.
        ValueError: when it is no such expression; by the function, when it does not match a key.

    Example:
        >>> patient_reader(r"(P\d+)_")("train/ill/P12_left.png")
        'P12'
    """
    text = text_of(pattern, "patient_pattern")
    try:
        compiled = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"patient_pattern: expected a regular expression, got {text!r}: {error}") from error
    if compiled.groups != 1:
        raise ValueError(
            f"patient_pattern: expected a regular expression with one group, which is the patient, got {text!r} with "
            rf"{compiled.groups}; write for example '(P\d+)_', and (?:...) for groups that are not"
        )

    def read(key: str) -> str:
        match = compiled.search(key)
        if match is None or not (match.group(1) or "").strip():
            raise ValueError(
                f"patient_pattern: expected {text!r} to find the patient in every file name, it finds none in "
                f"{shown(key)!r}; widen the pattern or move the file away"
            )
        return match.group(1).strip()

    return read


def patients_of(items: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Patient -> key of an image of theirs, for `check_patients`; images of unknown patients are left out."""
    found: dict[str, str] = {}
    for item in items:
        if patient := known_patient(item.get("patient")):
            found.setdefault(patient, str(item.get("key", "")))
    return found


def check_patients(patients: Mapping[str, Mapping[str, str]], allow: Any = None, *, where: str = "") -> None:
    """Refuse a patient that is in two splits, unless the two are named as allowed to share patients.

    Args:
        patients: split -> what `patients_of` gives for it.
        allow: names of splits that may share patients with one another, such as ``["train", "validation"]``; None for
            none.
        where: the data set, for the message.

    Raises:
        TypeError: when `allow` is no list of names.
        ValueError: naming a patient and two images of theirs, also where the two names differ in case or spaces alone;
            or a name in `allow` that is no split.

    Example:
        >>> check_patients({"train": {"P1": "a.png"}, "test": {"P1": "b.png"}}, ["train", "test"])
        >>> check_patients({"train": {"P1": "a.png"}, "test": {"P1": "b.png"}})
        Traceback (most recent call last):
        ValueError: patient: expected each patient in one split, got 1 in both 'train' and 'test': 'P1' (a.png; ...
    """
    allowed = _names(allow, patients)
    for a, b in combinations(patients, 2):
        if {a, b} <= allowed:
            continue
        shared = sorted(patients[a].keys() & patients[b].keys())
        if not shared:
            _check_spelling(patients, a, b, where)
        else:
            name = shared[0]
            some = f"'{shown(name)}' ({shown(patients[a][name])}; {shown(patients[b][name])})"
            raise ValueError(
                f"{where}{': ' if where else ''}patient: expected each patient in one split, got {len(shared)} in both "
                f"{a!r} and {b!r}: {some}{' and others' if len(shared) > 1 else ''}; split by patient, or allow it by "
                f"name: --allow_shared_patients \"['{a}','{b}']\""
            )


def _check_spelling(patients: Mapping[str, Mapping[str, str]], a: str, b: str, where: str) -> None:
    """Refuse names that differ in case or spaces alone: of one patient they would be two."""
    plain = {" ".join(name.casefold().split()): name for name in patients[a]}
    for other in sorted(patients[b]):
        if (name := plain.get(" ".join(other.casefold().split()))) is not None:
            raise ValueError(
                f"{where}{': ' if where else ''}patient: expected each patient in one split, got '{shown(name)}' "
                f"({shown(patients[a][name])}) in {a!r} and '{shown(other)}' ({shown(patients[b][other])}) in {b!r}, "
                "which differ in case or spaces alone; write one patient the same everywhere, or allow it by name: "
                f"--allow_shared_patients \"['{a}','{b}']\""
            )


def _names(allow: Any, patients: Mapping[str, Any]) -> set[str]:
    if allow is None:
        return set()
    names: Any = [part.strip(" '\"") for part in allow.strip("[]() ").split(",")] if isinstance(allow, str) else allow
    known = {*SPLITS, *patients, "validation_official"}
    if not isinstance(names, Sequence | set) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"allow_shared_patients: expected names of splits such as ['train', 'test'], got {allow!r}")
    if wrong := [name for name in names if name not in known]:
        raise ValueError(f"allow_shared_patients: expected names of splits ({', '.join(sorted(known))}), got {wrong}")
    if len(set(names)) == 1:
        raise ValueError(f"allow_shared_patients: expected two splits that may share patients, got only {list(names)}")
    return set(names)
