# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Reading a file of weights, and saying what a file is that holds none."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Mapping
from importlib import import_module, util
from pathlib import Path
from typing import Any

import torch

__all__ = ["read_tensors", "read_torch_file"]

_FEW = 100  # numbers that may all be zero: a layer that does nothing yet
_CHECKPOINT = ("trainer", "optimizer", "network", "state_dict", "model_state_dict", "model", "epoch")
_MAGIC = (
    (b"\x89HDF\r\n", "an HDF5 file, as Keras writes it"),
    (b"\x1f\x8b", "a gzip file; unpack it"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"%PDF", "a PDF"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"Rar!", "a RAR file; unpack it"),
    (b"7z\xbc\xaf", "a 7z file; unpack it"),
)


def read_torch_file(path: str | os.PathLike[str], *, what: str = "weights") -> Any:
    """The content of a file of `torch.save`, read without running any code in it.

    Args:
        path: the file.
        what: what it should hold, for the message.

    Raises:
        ValueError: when it cannot be read so; says what the file looks like.
    """
    path = Path(path)
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise ValueError(f"path: expected a file of {what}, but {path} {state}{_hint(path)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what looks strange; what it is, is said below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        # torch's own words would advise to load it without protection, so they are left out.
        raise ValueError(f"path: expected a file of {what}, but {path} is {_looks_like(path)}") from None


def read_tensors(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """The tensors of a file of weights by name: a state dict that `torch.save` wrote, or a safetensors file.

    Safetensors files need the package of that name.

    Raises:
        ValueError: when the file holds no weights, or some that are not finite; says what the file looks like.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"bias": torch.zeros(2)}, folder + "/model.pt")
        ...     read_tensors(folder + "/model.pt")
        {'bias': tensor([0., 0.])}
    """
    path = Path(path)
    content = _read_safetensors(path) if path.is_file() and _is_safetensors(path) else read_torch_file(path)
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"path: expected a state dict, names with tensors, got {_name(content)} in {path}")
    strange = {str(name): value for name, value in content.items() if not isinstance(value, torch.Tensor)}
    # Networks may keep a little state that is no tensor; it comes under "_extra_state".
    strange = {name: value for name, value in strange.items() if not name.endswith("_extra_state")}
    if strange and (known := [name for name in _CHECKPOINT if name in content]):
        raise ValueError(
            f"path: expected weights alone, but {path} is a whole training checkpoint ({', '.join(known)}); take the "
            "model.pt that the training wrote beside it, or save its state dict of the network to a file of its own"
        )
    if strange:
        name, value = next(iter(strange.items()))
        raise ValueError(f"path: expected names with tensors in {path}, got {name!r} with {_name(value)}")
    for name, value in content.items():
        if isinstance(value, torch.Tensor) and (value.layout != torch.strided or value.is_meta or value.is_complex()):
            kind = "no values (device meta)" if value.is_meta else f"{value.dtype} ({value.layout})"
            raise ValueError(f"path: expected dense real weights in {path}, got {kind} in {name}; save them as such")
        floating = isinstance(value, torch.Tensor) and value.is_floating_point()
        if floating and not bool(torch.isfinite(value).all()):
            raise ValueError(f"path: expected finite weights in {path}, got NaN or infinity in {name}; train anew")
    _check_not_all_zero(path, content)
    return dict(content)


def _check_not_all_zero(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse zeros alone, of a disc that was full, say: such a network sees no difference between any classes."""
    numbers = [value for value in content.values() if isinstance(value, torch.Tensor) and value.is_floating_point()]
    if sum(value.numel() for value in numbers) > _FEW and not any(bool(value.any()) for value in numbers):
        raise ValueError(
            f"path: expected trained weights in {path}, got nothing but zeros; copy the file anew, or train"
        )


def _name(value: Any) -> str:
    return "nothing" if isinstance(value, Mapping) and not value else type(value).__name__


def _hint(path: Path) -> str:
    if path.is_dir() and (inside := [name for name in ("model.pt", "models/model.pt") if (path / name).is_file()]):
        return f"; name the file in it, {path / inside[0]}"
    return "" if path.is_dir() else "; train first, or name another"


def _is_safetensors(path: Path) -> bool:
    """Whether it begins as a safetensors file does: the length of a JSON header, then the header."""
    with path.open("rb") as file:
        start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    return len(start) == 9 and start[8:] == b"{" and 2 <= length <= max(path.stat().st_size, 100_000_000)


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    if util.find_spec("safetensors") is None:
        raise ValueError(
            f"path: {path} is a safetensors file; install the package safetensors to read it, or save a state dict "
            "with torch.save"
        )
    try:
        return dict(import_module("safetensors.torch").load_file(path))
    except Exception as error:
        raise ValueError(
            f"path: {path} is a safetensors file that is cut or damaged ({error}); copy it again"
        ) from None


def _looks_like(path: Path) -> str:
    """What a file that torch cannot read looks like, with a remedy where one is known."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4096)
    if size == 0:
        return "empty (0 bytes); copy it again"
    if start.startswith(b"PK"):
        return _kind_of_zip(path, size)
    if start.startswith(b"\x80"):
        return (
            "a pickle that holds more than weights or is cut; it was not opened, as a pickle can run code: save the "
            "network's state_dict() with torch.save"
        )
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    return _kind_of_text(start)


def _kind_of_text(start: bytes) -> str:
    head = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, which stands for a file that was not downloaded; run 'git lfs pull'"
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page, probably that of a failed download; download it again"
    if not start.strip(b"\0"):
        return "nothing but zeros; copy it again"
    try:
        text = start[:-4].decode("utf-8") if len(start) > 4000 else start.decode("utf-8")
    except UnicodeDecodeError:
        return "of an unknown kind or damaged; copy it again"
    return "a text file" if text.isprintable() or not (set(text) & set(map(chr, range(8)))) else "of an unknown kind"


def _kind_of_zip(path: Path, size: int) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.split("/", 1)[-1] for name in archive.namelist()]
            damaged = archive.testzip() if "data.pkl" in names else None
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError):
        return f"a cut or damaged zip file ({size} bytes); copy it again"
    if "constants.pkl" in names:
        return "a TorchScript program, no file of weights; save the network's state_dict() with torch.save"
    if "data.pkl" not in names:
        return "a zip file of something else, such as " + (repr(names[0]) if names else "nothing")
    if damaged:
        return "a damaged zip file; copy it again"
    return (
        "a pickle that holds more than weights; it was not opened, as a pickle can run code: save the network's "
        "state_dict() with torch.save"
    )
