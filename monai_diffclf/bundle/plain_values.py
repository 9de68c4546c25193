# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Values as they may stand in a configuration without MONAI making something else of them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import torch

from .._class_names import shown

__all__ = ["check_plain", "plain_value", "usable_device"]

_CODE = ("$", "@", "%")
# MONAI writes :: for every #, and resolves relative ids wherever they stand in a text.
_WITHIN = re.compile(r"#|[@%]::")


def plain_value(name: str, value: Any) -> Any:
    """A setting as MONAI may be given it: values as they are, a path as text that is no code, a device as a device.

    Args:
        name: its id.
        value: a number, truth value, None, text, path, device, tensor or other object, or lists and dictionaries of
            these.

    Raises:
        ValueError: when a text would be evaluated or changed by MONAI, or a dictionary is a component (``_target_``).

    Example:
        >>> from pathlib import Path
        >>> plain_value("dataset_dir", Path("$HOME")), plain_value("device", "cpu")
        ('./$HOME', device(type='cpu'))
        >>> plain_value("classes", ["normal", "$import os"])
        Traceback (most recent call last):
        ValueError: classes: expected plain text, but $import os begins with $, which MONAI would take for code or a
        reference; choose another text, for a path write ./$import os
    """
    if isinstance(value, PurePath):
        text = os.fspath(value)
        value = os.path.join(".", text) if text.startswith(_CODE) else text
    elif name == "device" and value is not None:
        return usable_device(name, value)
    check_plain(name, value)
    return list(value) if isinstance(value, tuple) else value


def check_plain(name: str, value: Any) -> None:
    """Refuse text that MONAI would evaluate or change, alone or within lists and dictionaries.

    Raises:
        ValueError: see `plain_value`.
    """
    last = re.split(r"#|::", name)[-1]
    if len(last) > 2 and last.startswith("_") and last.endswith("_"):
        raise ValueError(
            f"{name}: expected the id of a plain value, got one of what MONAI makes of a component ({last}); put it "
            "into a configuration file of your own"
        )
    if isinstance(value, str):
        _check_text(name, value)
    elif isinstance(value, Mapping):
        if "_target_" in value:
            raise ValueError(
                f"{name}: expected plain values, got a component ({shown(value['_target_'])}); put it into a "
                "configuration file of your own"
            )
        for key, entry in value.items():
            check_plain(f"{name}#{key}", entry)
    elif isinstance(value, list | tuple | set):
        for entry in value:
            check_plain(name, entry)


def _check_text(name: str, text: str) -> None:
    if text.startswith(_CODE):
        raise ValueError(
            f"{name}: expected plain text, but {shown(text)} begins with {text[0]}, which MONAI would take for code or "
            f"a reference; choose another text, for a path write ./{shown(text)}"
        )
    if found := _WITHIN.search(text):
        raise ValueError(
            f"{name}: expected plain text, but {shown(text)} holds {found.group()}, which MONAI changes in a "
            "configuration; choose another text, or rename the folder"
        )


def usable_device(name: str, value: Any) -> torch.device:
    """A device that this machine, and this build of torch, has.

    Args:
        name: what to call it in messages.
        value: such as ``"cpu"`` or ``"cuda:0"``.

    Raises:
        ValueError: when there is none such.

    Example:
        >>> usable_device("device", "cpu")
        device(type='cpu')
    """
    try:
        device = torch.device(value)
        torch.zeros(1, device=device).item()
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{name}: expected a device of this machine, such as cpu or cuda:0, got {shown(value)} ({reason})"
        ) from error
    return device
