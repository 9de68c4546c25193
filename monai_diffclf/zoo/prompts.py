# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Prompts as a bundle's text encoder sees them, from a local folder, or encoded beforehand in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .._class_names import shown
from .._optional import require
from .._text import joined
from ..networks.condition_tables import refuse_long_prompts
from ..networks.weights_content import read_tensors

__all__ = ["encode_texts", "read_embeddings"]


@torch.no_grad()
def encode_texts(folder: Path, texts: Sequence[str]) -> list[torch.Tensor]:
    """Tokens of each prompt [L, D], as latent diffusion takes them: the last hidden state of a padded prompt.

    The folder is that of a pipeline, with ``tokenizer`` and ``text_encoder`` in it, or of one model of transformers
    (CLIP, RadBERT). Nothing is downloaded.

    Args:
        folder: the local folder.
        texts: the prompts.

    Raises:
        ValueError: when the extra ``transformers`` or the folder is missing, or a prompt is longer than the encoder
            takes: what is cut off could be what tells classes apart.
    """
    require("transformers", argument="text_encoder", purpose="a text encoder", extra="transformers")
    from transformers import AutoModel, AutoTokenizer

    parts = [folder / name if (folder / name).is_dir() else folder for name in ("tokenizer", "text_encoder")]
    if not (parts[1] / "config.json").is_file():
        raise ValueError(
            f"text_encoder: expected a local folder of transformers, with config.json or with tokenizer/ and "
            f"text_encoder/ in it, got {shown(folder, 200)}; download the model beforehand, nothing is fetched from a "
            "network"
        )
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(parts[0]), local_files_only=True)
        encoder: Any = AutoModel.from_pretrained(str(parts[1]), local_files_only=True).eval()
    except Exception as error:
        raise ValueError(f"text_encoder: cannot read {folder}: {shown(joined(error), 200)}") from error
    encoder = getattr(encoder, "text_model", encoder)
    most = min(int(tokenizer.model_max_length), int(encoder.config.max_position_embeddings))
    refuse_long_prompts(tokenizer, texts, most, argument="conditions", encoder="the text encoder")
    found = []
    for text in texts:
        ids = tokenizer(text, padding="max_length", max_length=most, return_tensors="pt")["input_ids"]
        found.append(encoder(input_ids=ids)[0][0].float())
    return found


def read_embeddings(path: Path, texts: Sequence[str]) -> list[torch.Tensor]:
    """Tokens of each prompt [L, D] from a file of tensors, safetensors or of `torch.save`, by the prompts themselves.

    Args:
        path: the file.
        texts: the prompts.

    Raises:
        ValueError: when there is no such file, a prompt is not in it, or its tokens are no matrix.
    """
    tensors = read_tensors(path)
    if missing := [text for text in texts if text not in tensors]:
        raise ValueError(f"embeddings: expected every prompt in {path}, which has none of {shown(missing[0])!r}")
    found = [tensors[text].float() for text in texts]
    shapes = {tuple(each.shape) for each in found}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(
            f"embeddings: expected tokens [L, D] of one length for every prompt in {path}, got {sorted(shapes)[:3]}"
        )
    return found
