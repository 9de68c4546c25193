# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What weights are for: classes, images, network and schedule, in plain values that stand beside them."""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from monai.networks.schedulers import Scheduler
from monai.transforms import Randomizable, Transform
from monai.transforms.traits import RandomizableTrait
from torch import nn

from .._plain_values import json_values, plain_values
from .latent_space import LatentSpace
from .schedulers import SDE, NoiseProcess, SDEProcess
from .value_description import NotDescribedError, is_from_library, value_hash
from .wrapped import unwrapped

__all__ = ["check_description", "describe_model", "describe_settings", "differences", "read_model_note"]

_VALUES = (bool, int, float, str, np.bool_, np.integer, np.floating)
_LEVELS = (0.0, 0.25, 0.5, 0.75, 0.999)
_HASHED = (FunctionType, BuiltinFunctionType, MethodType, functools.partial, np.ndarray, torch.Tensor)
_INTENSITY = ("Intensity", "Equalize", "Normalize")


def describe_model(
    network: nn.Module,
    *,
    classes: Sequence[str],
    channels: int,
    image_size: int | Sequence[int],
    bundle: str = "",
    settings: Mapping[str, Any] | None = None,
    schedule: Scheduler | NoiseProcess | SDE | None = None,
    prediction_type: str | None = None,
    preprocessing: Any = None,
    latent_space: LatentSpace | None = None,
) -> dict[str, Any]:
    """All that must agree between a training and the use of its weights, as plain values.

    Args:
        network: the network.
        classes: names of the classes in the order of their labels.
        channels: channels of the images.
        image_size: their size in pixels, as the bundle states it.
        bundle: name of the bundle.
        settings: what the network was built with, such as its channels.
        schedule: how it was noised: a scheduler, a process or an SDE; None for a network without noise.
        prediction_type: what the network predicts, where the schedule does not say.
        preprocessing: transforms of an image that is classified; how they scale intensities is recorded.
        latent_space: the space that the network works in; None for pixels.

    Returns:
        ``bundle``, ``classes``, ``channels``, ``image_size``, ``intensity``, ``network``, ``schedule`` and, where there
        is one, ``latent_space``: its version, and of a pretrained encoder the name and whether it is as it was
        (frozen) or was adapted.

    Raises:
        ValueError: when the classes are not at least two different names.

    Example:
        >>> described = describe_model(nn.Linear(1, 2), classes=["a", "b"], channels=1, image_size=[8, 8])
        >>> described["classes"], described["network"]["class"], described["network"]["parameters"]
        (['a', 'b'], 'Linear', 4)
    """
    names = [str(name) for name in classes]
    if len(names) < 2 or len({*names}) < len(names):
        raise ValueError(f"classes: expected at least two different names, got {names}")
    network = unwrapped(network)
    found = {
        "bundle": bundle,
        "classes": names,
        "channels": channels,
        "image_size": image_size if isinstance(image_size, int) else list(image_size),
        "intensity": [_plain(transform) for transform in _intensities(preprocessing)],
        "network": {
            "class": type(network).__name__,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "shapes": _shapes(network),
            **({"settings": dict(settings)} if settings else {}),
        },
        "schedule": _describe_schedule(schedule, prediction_type),
        **({} if latent_space is None else {"latent_space": _describe_space(latent_space)}),
    }
    return json_values(found, "settings")


def describe_settings(thing: Any) -> dict[str, Any]:
    """Class and settings of an optimizer, a loss, a moving average or transforms, as plain values.

    Args:
        thing: one of these, or a list of them; a moving average before it is used, as it counts its steps. Of a random
            transform, which keeps what it has drawn last, only that which it was made with is said. Functions and
            arrays that it holds are there as hashes, and so is a transform of one's own, as ``content``, where they can
            be described (:func:`monai_diffclf.networks.value_hash`).

    Example:
        >>> describe_settings(torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1, weight_decay=0.5))["weight_decay"]
        0.5
    """
    if isinstance(thing, list | tuple):
        # By their places, so that `differences` names what differs of one.
        return {"count": len(thing), **{str(n): describe_settings(each) for n, each in enumerate(thing)}}
    if isinstance(thing, torch.optim.Optimizer):
        defaults = plain_values(thing.defaults)
        numbers = {name: value for name, value in defaults.items() if isinstance(value, int | float | tuple)}
        return {"class": type(thing).__name__, **json_values(numbers, "thing")}
    # Transforms hold others: those of a dictionary the one of the array, that one the parts that it is made of.
    inner = {
        name: describe_settings(value)
        for name, value in sorted(getattr(thing, "__dict__", {}).items())
        if type(value).__module__.startswith(("monai.transforms", "monai_diffclf.transforms"))
        and not isinstance(value, type | enum.Enum)
    }
    plain = {**_plain(thing), **_hashes(thing)}
    if isinstance(thing, Randomizable | RandomizableTrait):
        made_with = {"class", "content", *inspect.signature(type(thing).__init__).parameters}
        plain = {name: value for name, value in plain.items() if name in made_with}
    return {**plain, **inner}


def differences(expected: Mapping[str, Any], found: Mapping[str, Any], *, of_one_run: bool = False) -> list[str]:
    """What differs between two descriptions, a text for each thing; what only one of them says is passed over.

    Args:
        expected: what is asked for.
        found: what was recorded.
        of_one_run: whether it is to be the same run that goes on: then None and nothing are values like others, where
            both have the name. Else weights may be used where less, or more, is known of them.

    Example:
        >>> differences({"classes": ["a", "b"], "channels": 1}, {"classes": ["b", "a"], "channels": 1})
        ["classes: made with ['b', 'a'], asked for ['a', 'b']"]
    """
    texts = []
    for name, value in expected.items():
        recorded = found.get(name)
        unknown = name not in found or (not of_one_run and any(_is_nothing(each) for each in (value, recorded)))
        if unknown or _same(value, recorded):
            continue
        if isinstance(value, Mapping) and isinstance(recorded, Mapping):
            texts += [f"{name} {text}" for text in differences(value, recorded, of_one_run=of_one_run)]
        else:
            texts.append(f"{name}: made with {recorded!r}, asked for {value!r}")
    return texts


def read_model_note(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON file beside a file of weights, such as ``model.json`` for ``model.pt``; empty if there is none.

    Raises:
        ValueError: when it is no JSON object.
    """
    path = Path(path).with_suffix(".json")
    if not path.is_file():
        return {}
    expected = f"path: expected JSON that describes the weights in {path}, got"
    remedy = (
        "copy it again from where the weights are from, or remove it: whether the weights are for these classes, size "
        "and noise can then not be checked, and what else was learned with them is lost"
    )
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{expected} something else: {error}; {remedy}") from None
    if not isinstance(note, dict) or not isinstance(note.get("model", {}), dict):
        raise ValueError(f"{expected} another value; {remedy}")
    return note


def check_description(path: str | os.PathLike[str], expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuse weights that are described otherwise than what they are asked for.

    Raises:
        ValueError: names every difference, and the order of the classes they were trained with.
    """
    if not (texts := differences(expected, found)):
        return
    if expected.get("bundle") and found.get("bundle") and expected["bundle"] != found["bundle"]:
        texts = [text for text in texts if text.startswith(("bundle", "classes"))]
    raise ValueError(
        f"checkpoint: the weights in {path} are of another model ({'; '.join(texts)}); give the settings they were "
        "made with, or the weights of this model"
    )


def _is_nothing(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _same(one: Any, other: Any, abs_tol: float = 0.0) -> bool:
    """Equal, numbers to five digits: logarithms may differ in the last from machine to machine.

    Near zero only those in lists may, such as the log-SNR of the levels: a learning rate is small as a whole.
    """
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        both_nan = math.isnan(one) and math.isnan(other)
        return both_nan or math.isclose(one, other, rel_tol=1e-5, abs_tol=abs_tol)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(_same(one[name], other[name]) for name in one.keys() & other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(a, b, 1e-5) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def _shapes(network: nn.Module) -> str:
    """Hash of names and shapes of all weights."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(getattr(value, 'shape', ()))}\n".encode())
    return digest.hexdigest()


def _describe_space(space: LatentSpace) -> dict[str, str]:
    """Its version, and in words what it is of."""
    encoder = getattr(getattr(space, "encoder", None), "name", None)
    if encoder is None:
        return {"version": space.version}
    return {
        "encoder": str(encoder),
        "training": "adapted" if getattr(space, "adapted", False) else "frozen",
        "version": space.version,
    }


def _describe_schedule(
    schedule: Scheduler | NoiseProcess | SDE | None, prediction_type: str | None
) -> dict[str, Any] | None:
    if schedule is None:
        return None
    if isinstance(schedule, SDEProcess):
        prediction_type = schedule.prediction_type
        schedule = schedule.sde
    if isinstance(schedule, SDE):
        return {**_plain(schedule), "prediction_type": prediction_type}
    process = NoiseProcess.of(schedule)
    log_snr = process.log_snr(process.timesteps(torch.tensor(_LEVELS, dtype=torch.float64)))
    return {
        "class": type(schedule).__name__,
        "prediction_type": prediction_type or process.prediction_type,
        "log_snr": [round(value, 4) for value in log_snr.tolist()],
    }


def _intensities(transforms: Any) -> Iterable[Any]:
    """The transforms that change intensities, in their order, also inside of others."""
    if isinstance(transforms, list | tuple):
        for transform in transforms:
            yield from _intensities(transform)
    elif hasattr(transforms, "transforms"):
        yield from _intensities(transforms.transforms)
    elif any(part in type(transforms).__name__ for part in _INTENSITY) and "Rand" not in type(transforms).__name__:
        # A transform of a dictionary holds the one of the array, whose name has no "d" at the end.
        inner = [
            value for value in vars(transforms).values() if type(value).__name__ + "d" == type(transforms).__name__
        ]
        yield inner[0] if inner else transforms


def _hashes(thing: Any) -> dict[str, str]:
    """Hashes of what is no plain value: functions and arrays, and a function or a transform of one's own as a whole."""
    held = {name: value for name, value in getattr(thing, "__dict__", {}).items() if isinstance(value, _HASHED)}
    own = isinstance(thing, Transform) and not is_from_library(type(thing).__module__)
    if own or isinstance(thing, _HASHED):
        held = {"content": thing, **held}
    found = {}
    for name, value in held.items():
        with suppress(NotDescribedError):
            found[name] = value_hash(value)
    return found


def _plain(thing: Any) -> dict[str, Any]:
    """Class and plain values of an object."""
    values: dict[str, Any] = {"class": type(thing).__name__}
    for name, value in sorted(getattr(thing, "__dict__", {}).items()):
        if name.startswith("_") or name in ("keys", "allow_missing_keys", "dtype"):
            continue
        if isinstance(value, _VALUES):
            values[name] = plain_values(value)
        elif isinstance(value, list | tuple) and all(isinstance(item, _VALUES) for item in value):
            values[name] = plain_values(list(value))
    return values
