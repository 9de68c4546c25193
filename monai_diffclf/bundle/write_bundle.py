# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Write a bundle from its settings: whole, or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from string import Template

import torch
from monai.bundle import ConfigParser

from .._text_path import text_path
from ..storage.atomic_file import begun_beside
from .metadata import build_metadata
from .settings import SETTINGS, BundleSettings
from .template import TEMPLATE, build_configs

__all__ = ["bundle_files", "write_bundle"]

_METHODS = {
    "diffusion": "diffusion classifier",
    "representation": "diffusion classifier on the features of a pretrained encoder",
    "score": "score classifier",
    "resnet18": "ResNet-18",
}


def write_bundle(folder: str | os.PathLike[str], settings: BundleSettings) -> Path:
    """Write a bundle: configurations, metadata, licence, README, its settings, and a folder for weights.

    ``python -m monai.bundle run`` and MONAI's ``verify_metadata`` and ``verify_net_in_out`` work on it.

    Args:
        folder: where to; it must not exist, or be empty.
        settings: what the bundle is made from.

    Returns:
        the folder, whole.

    Raises:
        ValueError: when the folder holds something, or the settings make no bundle: an id that the template does not
            have, a network that cannot be built. Nothing is left behind.

    Example:
        >>> import tempfile
        >>> settings = BundleSettings(name="mine", classes=["benign", "malignant"], channels=1, image_size=64)
        >>> with tempfile.TemporaryDirectory() as place:
        ...     sorted(path.name for path in write_bundle(place + "/mine", settings).iterdir())
        ['LICENSE', 'configs', 'docs', 'models', 'settings.json']
    """
    target = text_path(folder, "folder").expanduser()
    target = Path(os.path.abspath(target))
    if target.is_symlink() or (target.exists() and not target.is_dir()) or (target.is_dir() and any(target.iterdir())):
        raise ValueError(f"folder: expected a new or empty folder, but {target} holds something; name another")
    files = bundle_files(settings)
    target.parent.mkdir(parents=True, exist_ok=True)
    with begun_beside(target.with_name(target.name[:40]), folder=True) as made:  # a name may be as long as allowed
        try:
            made.chmod(0o755)
            (made / "models").mkdir()
            for name, content in files.items():
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                (made / name).write_bytes(content)
            if target.is_dir():
                target.rmdir()
            os.replace(made, target)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    return target


def bundle_files(settings: BundleSettings) -> dict[str, bytes]:
    """What `write_bundle` writes: contents by their paths in the bundle.

    Raises:
        ValueError: when the settings make no bundle.
    """
    configs = build_configs(settings)
    _check_network(configs["train.json"])
    jsons = {f"configs/{name}": config for name, config in configs.items()}
    jsons["configs/metadata.json"] = build_metadata(settings, configs)
    jsons[SETTINGS] = settings.to_dict()
    # In ASCII: MONAI reads configurations in the encoding of the machine.
    files = {name: (json.dumps(content, indent=4) + "\n").encode("ascii") for name, content in jsons.items()}
    common = TEMPLATE / "common"
    files["LICENSE"] = (common / "LICENSE").read_bytes()
    files["configs/logging.conf"] = (common / "logging.conf").read_bytes()
    files["docs/README.md"] = _readme(settings).encode()
    return files


def _check_network(config: dict[str, object]) -> None:
    """Refuse settings whose network cannot be built; no memory is taken for it.

    Raises:
        ValueError: with what the network says.
    """
    parser = ConfigParser(json.loads(json.dumps(config)))
    name = str(parser["model_description::network"]).removeprefix("@")
    try:
        with torch.device("meta"):
            parser.get_parsed_content(name)
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        said = " ".join(str(cause).split()) or type(cause).__name__
        raise ValueError(
            f"values: expected a network that can be built, got one that cannot ({name}): {said}"
        ) from error


def _readme(settings: BundleSettings) -> str:
    text = Template((TEMPLATE / "common" / "README.md").read_text(encoding="utf-8"))
    sides = " x ".join(map(str, settings.image_size))  # type: ignore[arg-type]
    return text.substitute(
        name=settings.name,
        size=sides,
        kind="grey" if settings.channels == 1 else "colour",
        method=_METHODS[settings.method],
        classes=json.dumps(list(settings.classes), ensure_ascii=False),
    )
