# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What a client may ask of an inference, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..classification.rules import check_rule

__all__ = ["InferRequest", "device_of", "find_devices", "flag_of", "integer_of", "parse_request"]

MAX_DRAWS = 1001  # a slip of the finger must not ask for a million
RESULT_EXTENSIONS = (".nii.gz", ".nii", ".png", ".nrrd")

# What MONAI Label and its clients put into every request.
_MONAI_LABELS_OWN = """
    model image images description session session_id label label_info label_tag tag save_label client_id user timeout
    logging gpus multi_gpu method strategy result_dtype result_write_to_file restore_label_idx
"""


@dataclass(frozen=True)
class InferRequest:
    """The settings of one inference; None stands for the bundle's own.

    Args:
        num_draws: noise draws.
        rule: rule of the decision, see :func:`monai_diffclf.classification.classify_errors`.
        seed: seed of the draws.
        device: ``cpu``, ``cuda:0``, ...
        result_extension: kind of file of the error map: ``.nii.gz``, ``.nii`` or ``.png``; with ``.nrrd``, which 3D
            Slicer asks for, a label map of the class in its place.
        overlay: whether the reply holds a picture of the map over the image.
        result_compress: whether the voxels of a ``.nrrd`` are compressed; OHIF asks for raw ones.
        ignored: parameters of the request that mean nothing here.
    """

    num_draws: int | None = None
    rule: str | None = None
    seed: int | None = None
    device: str | None = None
    result_extension: str = ".nii.gz"
    overlay: bool = False
    result_compress: bool = True
    ignored: tuple[str, ...] = ()


def find_devices() -> dict[str, str]:
    """Names a client may give for a device -> PyTorch's name. A GPU has its model's name, as MONAI Label shows it, too.

    Example:
        >>> find_devices()["cpu"]
        'cpu'
    """
    found = {"cpu": "cpu"}
    count = torch.cuda.device_count()
    for index in range(count):
        name = torch.cuda.get_device_name(index)
        found |= {f"cuda:{index}": f"cuda:{index}", name if count == 1 else f"{name}:{index}": f"cuda:{index}"}
    return found | {"cuda": "cuda:0"} if count else found


def parse_request(request: Mapping[str, Any]) -> InferRequest:
    """Check a request's parameters.

    Args:
        request: parameters as MONAI Label hands them to a task. A list is a client's way to give back the options that
            it was shown: its first entry counts. Numbers may come as text.

    Raises:
        ValueError: naming the parameter, what was expected and what came.

    Example:
        >>> parse_request({"model": "x", "image": "y.png", "num_draws": "11", "num_drews": 3})
        InferRequest(num_draws=11, rule=None, seed=None, device=None, result_extension='.nii.gz', overlay=False,
                     result_compress=True, ignored=('num_drews',))
    """
    ours = InferRequest.__dataclass_fields__.keys() - {"ignored"}
    given = {name: value[0] if isinstance(value, list) and value else value for name, value in request.items()}
    given = {name: value for name, value in given.items() if value is not None}
    if "rule" in given:
        check_rule(given["rule"])
    extension = str(given.get("result_extension", ".nii.gz"))
    if extension not in RESULT_EXTENSIONS:
        raise ValueError(f"result_extension: expected one of {list(RESULT_EXTENSIONS)}, got {extension!r}")
    return InferRequest(
        num_draws=integer_of(given, "num_draws", 1, MAX_DRAWS),
        rule=given.get("rule"),
        seed=integer_of(given, "seed", 0, 2**63 - 1),
        device=device_of(given.get("device")),
        result_extension=extension,
        overlay=flag_of(given, "overlay"),
        result_compress=flag_of(given, "result_compress", default=True),
        ignored=tuple(sorted(given.keys() - ours - set(_MONAI_LABELS_OWN.split()))),
    )


def integer_of(given: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    """An integer parameter; None where it is not given. Raises a ValueError naming it."""
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}: expected an integer from {low} to {high}, got {value!r}")
    return value


def flag_of(given: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    """A parameter that is true or false, also as text. Raises a ValueError naming it."""
    value = given.get(name, default)
    words = {"true": True, "false": False}
    value = words.get(value.lower(), value) if isinstance(value, str) else value
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected true or false, got {value!r}")
    return value


def device_of(name: Any) -> str | None:
    """PyTorch's name of a device that a client names; None for none. Raises a ValueError."""
    if name is None:
        return None
    devices = find_devices()
    if str(name) not in devices:
        why = "" if len(devices) > 1 else "; this server has no GPU"
        raise ValueError(f"device: expected one of {sorted(devices)}, got {name!r}{why}")
    return devices[str(name)]
