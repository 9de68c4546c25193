# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which weights an evaluation judges, and on which images."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..networks import network_hash
from ..networks.model_description import read_model_note

__all__ = ["find_weights", "judged_facts"]


def find_weights(
    run: str | os.PathLike[str],
    *,
    default: str | os.PathLike[str],
    shipped: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> str:
    """The weights to judge: those of the run in a folder; where no run was named and there is none, the shipped ones.

    Args:
        run: folder of the training, which holds ``model.pt``.
        default: the folder where a training goes that was given none; only there the shipped weights stand in.
        shipped: the weights that a bundle ships, if it does.
        seed: seed of the training; those of another seed are not taken for them.

    Returns:
        path of a file of weights. It is logged.

    Raises:
        ValueError: when the folder holds a run without weights, was named and holds none, or there are no others.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "model.pt").write_bytes(b"")
        ...     Path(find_weights(folder, default="runs/seed_0")).name
        'model.pt'
    """
    own, log = Path(run) / "model.pt", logging.getLogger(__name__)
    if own.is_file():
        log.info("Judging the weights of the run in %s: %s", run, own)
        return str(own)
    if (Path(run) / "checkpoint.pt").is_file():
        raise ValueError(
            f"output_dir: the training in {run} has no model.pt yet, as it was stopped before its first validation; go "
            "on with it, or name weights by --checkpoint"
        )
    if os.path.abspath(run) != os.path.abspath(default):
        raise ValueError(
            f"output_dir: expected a run with model.pt in {run}, found none; train with this --output_dir first, or "
            "name weights by --checkpoint"
        )
    if shipped is None or not Path(shipped).is_file():
        raise ValueError(
            f"checkpoint: no training has been run in {run}, and no weights are shipped; train first, or name "
            "weights by --checkpoint"
        )
    training = read_model_note(shipped).get("training") or {}
    if int(training.get("seed", 0)) != int(seed):
        raise ValueError(
            f"checkpoint: no training has been run in {run}, and the shipped weights are those of seed "
            f"{training.get('seed', 0)}, not {seed}; train with --seed {seed} first, or name weights by --checkpoint"
        )
    log.info("No training has been run in %s: judging the shipped weights %s", run, shipped)
    return str(shipped)


def judged_facts(
    checkpoint: str | os.PathLike[str],
    network: torch.nn.Module,
    data: Mapping[str, Any],
    split: str,
    audit: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """What results record of the weights and the images they were measured with; also logged.

    Args:
        checkpoint: file of the weights.
        network: the network that holds them.
        data: the images, see :func:`monai_diffclf.data.describe_data`.
        split: name of the split.
        audit: file of the audit of these images, see :func:`monai_diffclf.data.audit_run`, which need not be there.

    Returns:
        ``weights`` (path), ``weights_hash``, ``data_hash``, ``classes`` and, where there are such, ``audit``, the
        fingerprint of the audit, and of a network on what a pretrained encoder sees ``representation``: the encoder's
        name and whether it was frozen or adapted.
    """
    images = data[split]
    facts = {
        "weights": os.fspath(checkpoint),
        "weights_hash": network_hash(network),
        "data_hash": images["hash"],
        "classes": list(images["classes"]),
    }
    if (fingerprint := _fingerprint(audit)) is not None:
        facts["audit"] = fingerprint
    space = (read_model_note(checkpoint).get("model") or {}).get("latent_space") or {}
    if "encoder" in space:
        facts["representation"] = f"{space['encoder']}, {space['training']}"
    counts = ", ".join(f"{count} {name}" for name, count in images["classes"].items())
    logging.getLogger(__name__).info(
        "Weights %s (%s) on %s, %s: %d images (%s)",
        facts["weights"], facts["weights_hash"], data["name"], split, images["images"], counts,
    )  # fmt: skip
    return facts


def _fingerprint(audit: str | os.PathLike[str] | None) -> str | None:
    """What an audit says it is of; None without one."""
    try:
        found = json.loads(Path(audit or "").read_text(encoding="utf-8")).get("fingerprint")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None
