# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a training or evaluation does with its data before it starts: refuse, audit, print, save."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .._class_names import class_names
from .._file_state import file_state
from .._text_path import text_path
from ..storage.atomic_file import replace_text
from .audit import audit_splits
from .data_description import items_hash
from .label_vectors import check_findings_present, has_findings
from .patients import check_patients, patients_of
from .splits import NoSplitError, check_classes_present
from .trained_images import check_not_trained_on, split_members

__all__ = ["audit_run"]

Datalist = Sequence[Mapping[str, Any]]
# Of what is measured: another number, and stored audits are made anew.
_VERSION = 4
_TRAINING = "audit.json"
"""The audit that a training leaves in its folder, where its evaluation leaves one of another name."""


def audit_run(
    splits: Mapping[str, Datalist | Callable[[], Datalist]],
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str],
    enabled: bool = True,
    allow_shared_patients: Sequence[str] | None = None,
    progress: bool = False,
) -> str:
    """Check the data of a run, audit its splits (`audit_splits`), print what was found and save it with the run.

    Training and validation need images of every class, and no patient may be in two splits: this is checked whether or
    not the audit is enabled. An audit of the very same files (names, sizes, times, labels, patients) that is in the
    folder already, as of a run that goes on, is printed and not made again; one of other data is removed where none is
    made in its place. An evaluation's audit lies beside that of its training, ``audit.json``: images and patients that
    were trained on are refused where they are in another split now (`check_not_trained_on`). Of several processes the
    first one audits. Where labels are vectors, of several findings, the classes are findings, each of which must be
    there and not there, and the audit is of images with any and without.

    Args:
        splits: name of the split -> datalist, or a function that gives it; a split that the function says is absent
            (`NoSplitError`) is noted as such.
        path: the JSON file to write; beside it goes a text of the same name with the suffix .txt.
        classes: names of the classes.
        enabled: whether to read the images and audit them.
        allow_shared_patients: names of splits that may share patients, see `check_patients`.
        progress: whether to show a progress bar.

    Returns:
        what was printed; empty when the audit is not enabled, and on other processes than the first.

    Raises:
        TypeError: when `enabled` is no truth value.
        ValueError: when a class is missing from training or validation, a patient is in two splits, an image cannot be
            read, or what is to be judged was trained on.
    """
    if not isinstance(enabled, bool | np.bool_):
        raise TypeError(f"audit: expected True or False, got {enabled!r}")
    names = class_names(classes)
    found, absent = _load(splits)
    _check_classes(found, names)
    hashes = {split: items_hash(items) for split, items in found.items()}
    if any(has_findings(items) for items in found.values()):
        found, names = {split: _any_finding(items) for split, items in found.items()}, ["no finding", "a finding"]
    check_patients({split: patients_of(items) for split, items in found.items()}, allow_shared_patients)
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if distributed and torch.distributed.get_rank() > 0:
        return ""
    file = text_path(path, "path")
    fingerprint = _fingerprint(found, names, absent)
    if not enabled:
        _remove_other(file, fingerprint)
        return ""
    record = _stored(file, fingerprint, hashes)
    if record is None:
        audit = audit_splits(found, classes=names, absent=absent, progress=progress)
        about = {"version": _VERSION, "fingerprint": fingerprint, "data_hash": hashes, **audit.to_dict()}
        record = {**about, "text": str(audit).splitlines(), "members": split_members(found, audit.images)}
    if (training := file.with_name(_TRAINING)) != file:
        check_not_trained_on(training, record["members"], allow_shared_patients)
    replace_text(file, json.dumps(record, indent=1) + "\n")
    text = "\n".join(record["text"])
    replace_text(file.with_suffix(".txt"), text + "\n")
    print(text, flush=True)
    return text


def _check_classes(splits: Mapping[str, Datalist], names: Sequence[str]) -> None:
    for split, items in splits.items():
        if not has_findings(items):
            check_classes_present(items, split, names, all_of_them=True)
        elif split in ("train", "validation"):
            check_findings_present(items, split, names)


def _any_finding(items: Datalist) -> Datalist:
    """Items whose label says whether any finding is present, for an audit of images with several."""
    return [{**item, "label": int((np.asarray(item["label"]) == 1).any())} for item in items]


def _load(splits: Mapping[str, Datalist | Callable[[], Datalist]]) -> tuple[dict[str, Datalist], dict[str, str]]:
    found: dict[str, Datalist] = {}
    absent: dict[str, str] = {}
    for name, items in splits.items():
        try:
            found[name] = items() if callable(items) else items
        except NoSplitError as error:
            absent[name] = str(error)
    return found, absent


def _fingerprint(splits: Mapping[str, Datalist], classes: list[str], absent: Mapping[str, str]) -> str:
    """A hash of what the audit depends on: files by name, size and time, arrays by their bytes."""
    digest = hashlib.sha256(json.dumps([_VERSION, classes, dict(absent)]).encode())
    for name, items in splits.items():
        for item in items:
            image = item["image"]
            facts = [name, *(f"{key}={item[key]}" for key in sorted(item) if _is_plain(item[key]))]
            if isinstance(image, str | os.PathLike):
                facts += [os.fspath(image), str(file_state(image) if Path(image).exists() else None)]
            elif isinstance(image, list | tuple) and all(isinstance(each, str | os.PathLike) for each in image):
                facts += [f"{os.fspath(each)} {file_state(each)}" for each in image]
            else:
                array = np.ascontiguousarray(image)
                facts += [f"{array.dtype} {array.shape}", hashlib.sha256(array.tobytes()).hexdigest()]
            digest.update(json.dumps(facts).encode())
    return digest.hexdigest()


def _remove_other(file: Path, fingerprint: str) -> None:
    """Remove an audit of other data, which would be taken for one of these."""
    try:
        found = json.loads(file.read_text(encoding="utf-8")).get("fingerprint")
    except (OSError, ValueError, AttributeError):
        return  # none, or nothing of ours
    if isinstance(found, str) and found != fingerprint:
        file.unlink()
        file.with_suffix(".txt").unlink(missing_ok=True)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _stored(file: Path, fingerprint: str, hashes: Mapping[str, str]) -> dict[str, Any] | None:
    """The record of an audit of the same data in this file or one beside it; None where there is none."""
    for candidate in dict.fromkeys([file, file.with_name(_TRAINING)]):
        try:
            record: dict[str, Any] = json.loads(candidate.read_text(encoding="utf-8"))
            # Of several findings the fingerprint says only whether there are any, the hashes which.
            same = record["fingerprint"] == fingerprint and record["data_hash"] == hashes
            if same and "\n".join(record["text"]) and record["members"]:
                return record
        except (OSError, ValueError, KeyError, TypeError):
            continue  # none, or of an earlier version, or damaged: it is made anew
    return None
