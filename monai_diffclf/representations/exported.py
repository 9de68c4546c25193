# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Networks that were exported into one file: TorchScript and ONNX."""

from __future__ import annotations

import hashlib
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .._optional import require

__all__ = ["OnnxNetwork", "file_hash", "load_torchscript"]


def file_hash(path: str | os.PathLike[str], *, what: str) -> str:
    """Sixteen hexadecimal digits of a file's content.

    Args:
        path: the file.
        what: what it should hold, for the message.

    Raises:
        ValueError: when there is no such file.
    """
    file = Path(path)
    if not file.is_file():
        state = "is a folder" if file.is_dir() else "does not exist"
        raise ValueError(f"encoder: expected a file of {what}, but {path} {state}")
    digest = hashlib.blake2b(digest_size=8)
    with file.open("rb") as content:
        while part := content.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def load_torchscript(path: str | os.PathLike[str]) -> nn.Module:
    """The network in a TorchScript file. Such a file is a program: load only what comes from where you trust.

    Raises:
        ValueError: when the file holds none.
    """
    try:
        network: nn.Module = torch.jit.load(os.fspath(path), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"encoder: expected a TorchScript file, got {path}: {str(error)[:200]}") from None
    return network.eval()


class OnnxNetwork(nn.Module):
    """An ONNX file, run by ONNX Runtime on the CPU; gives a dictionary of its outputs by their names.

    One thread or as many as torch uses. No weight of it can be trained.

    Args:
        path: the file, with one input, of floating point images [B, C, *spatial].

    Raises:
        ValueError: when the package is missing, or the file cannot be run.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        require("onnxruntime", argument="encoder", purpose="an ONNX file", extra="onnx")
        self.path = os.fspath(path)
        self._session = self._open()

    def _open(self) -> Any:
        runtime: Any = import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            session = runtime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no class of its own for all of them
            raise ValueError(f"encoder: expected an ONNX file, got {self.path}: {str(error)[:200]}") from None
        inputs = session.get_inputs()
        if len(inputs) != 1:
            raise ValueError(f"encoder: expected an ONNX file with one input, got {[each.name for each in inputs]}")
        return session

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Its outputs for normalised images [B, C, *spatial], on their device."""
        name = self._session.get_inputs()[0].name
        try:
            values = self._session.run(None, {name: images.detach().float().cpu().contiguous().numpy()})
        except Exception as error:
            size = list(images.shape)
            raise ValueError(
                f"images: expected a size that {self.path} takes, got {size}: {str(error)[:200]}"
            ) from None
        names = [each.name for each in self._session.get_outputs()]
        return {key: torch.from_numpy(value).to(images.device) for key, value in zip(names, values, strict=True)}

    def __getstate__(self) -> dict[str, Any]:
        """Without the session, which cannot be copied."""
        return {key: value for key, value in self.__dict__.items() if key != "_session"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """With a session of its own."""
        super().__setstate__(state)
        self._session = self._open()
