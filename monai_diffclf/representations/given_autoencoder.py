# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The autoencoder that a bundle works on and does not hold: its folder is given by whoever uses the bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .._text_path import text_path
from .autoencoder_encoder import GIVEN, how_to_give, make_autoencoder_encoder
from .encoder import Encoder

__all__ = ["given_autoencoder"]


def given_autoencoder(folder: str | os.PathLike[str] | None, origin: str | None = None, **settings: Any) -> Encoder:
    """The codes of an autoencoder whose folder the user of a bundle gives, as an encoder.

    Like ``make_encoder("autoencoder:FOLDER")``, but what is made with it remembers no folder of this machine: the
    folder is given anew each time, and :func:`load_space` holds its weights to those of the training.

    Args:
        folder: the folder, as :func:`monai_diffclf.networks.load_autoencoder` reads it.
        origin: which autoencoder it is and where it comes from, for messages.
        settings: further arguments of `Encoder`.

    Raises:
        ValueError: when no folder is given, or it is not there, or holds no autoencoder; says where it comes from.

    Example:
        >>> given_autoencoder(None, "TINY of example.org")
        Traceback (most recent call last):
        ValueError: autoencoder: expected the folder of TINY of example.org, which this bundle does not hold, ...
    """
    path = None if folder is None else text_path(folder, "autoencoder").expanduser()
    if path is None or not path.is_dir():
        got = "None" if path is None else f"{path}, which is no folder"
        raise ValueError(
            f"autoencoder: expected the folder of {_of(origin)}, which this bundle does not hold, got {got}; get it "
            f"there and {how_to_give()}"
        )
    try:
        encoder = make_autoencoder_encoder(Path(os.path.abspath(path)), settings)
    except ValueError as error:
        raise ValueError(f"autoencoder: expected {_of(origin)} in {path}: {error}; {how_to_give()}") from None
    encoder.source = {"name": GIVEN, "origin": _of(origin), "folder": str(path)}
    return encoder


def _of(origin: str | None) -> str:
    return origin or "the autoencoder that its documentation names"
