# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The parts of a generative bundle that a classifier needs: network, scheduler, autoencoder and their checkpoints."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from pydoc import locate
from typing import Any, TypeGuard

import torch
from monai.bundle.config_item import ConfigComponent
from torch import nn

from .._class_names import shown
from .._text import joined
from ..networks import AutoencoderSpace, import_generative, network_hash
from ..networks.schedulers import NoiseProcess
from .checkpoints import find_checkpoint, find_scaling, load_checkpoint
from .concat_network import ConcatNetwork
from .config import ZooConfig, own_modules, read_config

__all__ = ["GenerativeParts", "read_parts"]

_ROLES = {"diffusion": "diffusion network", "autoencoder": "autoencoder", "noise_scheduler": "scheduler"}
_MODELS = re.compile(r"net|diffusion|autoencoder|vae|scheduler|model", re.IGNORECASE)
# Which kernels are used, and in which precision: for GPUs alone, with the same result up to rounding.
_OF_GPUS = ("use_flash_attention", "norm_float16")


@dataclass(frozen=True, eq=False)
class GenerativeParts:
    """What a bundle generates images with, on the CPU and in eval mode.

    Args:
        root: the bundle's folder.
        network: the diffusion network; called with ``concat`` too where conditions enter as channels.
        scheduler: the noise scheduler.
        latent_space: the autoencoder with its scaling factor; None for a model of pixels.
        checkpoint: the file of the diffusion network's weights.
        names: the id of each part in the configuration.
        covariates: names of the numbers that the network is conditioned on, in their order, as the configuration has
            them; empty where it has none.
        image_size: size of an image, as the bundle's metadata say; empty where they do not.
        value_range: lowest and highest value of an image.
        notes: what could not be found, and what was taken in its place.
    """

    root: Path
    network: nn.Module
    scheduler: Any
    latent_space: AutoencoderSpace | None
    checkpoint: Path
    names: Mapping[str, str]
    covariates: tuple[str, ...] = ()
    image_size: tuple[int, ...] = ()
    value_range: tuple[float, float] = (0.0, 1.0)
    notes: tuple[str, ...] = field(default=())

    @property
    def inner(self) -> Any:
        """The diffusion network itself."""
        return self.network.network if isinstance(self.network, ConcatNetwork) else self.network

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return int(self.inner.out_channels) if self.latent_space is None else self.latent_space.channels

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        kernels = [each for each in self.inner.modules() if isinstance(each, nn.Conv2d | nn.Conv3d)]
        return 3 if isinstance(kernels[0], nn.Conv3d) else 2

    @property
    def concatenated(self) -> int:
        """Channels in which conditions come beside the noisy image."""
        return _extra_channels(self.inner)

    @property
    def context_width(self) -> int | None:
        """Width of a token of the context for cross-attention, None where the network takes none."""
        if not getattr(self.inner, "with_conditioning", False):
            return None
        for name, module in self.inner.named_modules():
            if name.endswith("attn2.to_k"):
                return int(module.in_features)
        return None

    def latent_space_on(self, device: torch.device | str) -> AutoencoderSpace | None:
        """The latent space, its autoencoder on a device."""
        if self.latent_space is not None:
            self.latent_space.autoencoder.to(device)
        return self.latent_space

    @cached_property
    def fingerprint(self) -> str:
        """What tells these parts from others: hashes of the weights and the noise schedule."""
        process = NoiseProcess.of(self.scheduler)
        levels = process.timesteps(torch.arange(8) / 8)
        schedule = [round(value, 6) for value in process.log_snr(levels).tolist()]
        space = "pixels" if self.latent_space is None else self.latent_space.version
        return f"{network_hash(self.network)}, {space}, {process.prediction_type} {schedule}"

    def __repr__(self) -> str:
        """The fingerprint: it stands for the parts in a configuration that is hashed."""
        return f"GenerativeParts({self.fingerprint})"


def read_parts(
    bundle: Path,
    *,
    config_file: str | None = None,
    diffusion: str | None = None,
    autoencoder: str | None = None,
    noise_scheduler: str | None = None,
    scale_factor: float | None = None,
    on_gpu: bool = False,
) -> GenerativeParts:
    """Find and make the parts of a bundle, by its own configuration.

    Of several components of a kind the first in the file is taken. **Expressions and classes that the parts refer to
    are run**, as MONAI itself runs all of a bundle, so that a bundle must be trusted as far as MONAI's own command
    trusts it; checkpoints are read as tensors, without running code in them.

    Args:
        bundle: the bundle's folder.
        config_file: its configuration, see `read_config`.
        diffusion: id of the diffusion network.
        autoencoder: id of the autoencoder.
        noise_scheduler: id of the scheduler.
        scale_factor: factor of the latents; None for that of the bundle.
        on_gpu: whether it will run on a GPU; elsewhere flash attention and norms in half precision are switched off.

    Raises:
        ValueError: when a part or its checkpoint is missing, or parts do not fit each other.
    """
    config = read_config(bundle, config_file)
    given = {"diffusion": diffusion, "autoencoder": autoencoder, "noise_scheduler": noise_scheduler}
    names = _find_names(config, given)
    network, checkpoint = _make(config, names["diffusion"], on_gpu)
    scheduler = config.evaluate(config.content[names["noise_scheduler"]])
    NoiseProcess.of(scheduler)  # refuses what it does not know
    space, notes = None, list[str]()
    if "autoencoder" in names:
        encoder, _ = _make(config, names["autoencoder"], on_gpu)
        scaling = find_scaling(config) if scale_factor is None else scale_factor
        if scaling is None:
            notes.append(f"{config.root.name} says no scale_factor of its latents: 1 is taken")
        space = AutoencoderSpace(encoder, scaling_factor=1.0 if scaling is None else scaling, batch_size=1)
        _check_channels(config, network, encoder)
    image_size, value_range = _of_metadata(config)
    network = ConcatNetwork(network) if _extra_channels(network) > 0 else network
    return GenerativeParts(
        root=config.root,
        network=network.eval(),
        scheduler=scheduler,
        latent_space=space,
        checkpoint=checkpoint,
        names=names,
        covariates=_covariates(config),
        image_size=image_size,
        value_range=value_range,
        notes=tuple(notes),
    )


def _find_names(config: ZooConfig, given: Mapping[str, str | None]) -> dict[str, str]:
    """The id of each part: the one named, else the first component of its kind."""
    names: dict[str, str] = {}
    for role, name, _ in _kinds(config):
        names.setdefault(role, name)
    for role, wanted in given.items():
        if wanted is None:
            continue
        known = [name for found, name, _ in _kinds(config) if found == role]
        if wanted not in known:
            raise ValueError(
                f"{role}: expected the id of a component of {config.path} that is a {_ROLES[role]}, such as "
                f"{', '.join(known) or 'none there is'}, got {shown(wanted)}"
            )
        names[role] = wanted
    for role in ("diffusion", "noise_scheduler"):
        if role not in names:
            raise ValueError(
                f"bundle: expected a {_ROLES[role]} among the components of {config.path}, found none; is it a "
                "diffusion model's?"
            )
    return names


def _kinds(config: ZooConfig) -> Iterator[tuple[str, str, type]]:
    """Role, id and class of each component that is a part of a diffusion model."""
    with own_modules(config.root):
        for name, component in config.content.items():
            if not isinstance(component, dict) or not isinstance(component.get("_target_"), str):
                continue
            if _MODELS.search(name) is None:
                continue
            kind = _locate(config, component)
            role = _role(kind)
            if role is not None and isinstance(kind, type):
                yield role, name, kind


def _locate(config: ZooConfig, component: dict[str, Any]) -> Any:
    target = str(component["_target_"])
    if target.startswith("generative."):
        import_generative()
    try:
        name = ConfigComponent(config=component).resolve_module_name()
        found = locate(name) if isinstance(name, str) else name
    except Exception as error:
        raise ValueError(f"bundle: {target} of {config.path} cannot be imported: {joined(error)}") from error
    if found is None:
        raise ValueError(
            f"bundle: there is no {target}, which {config.path} needs; install the package, or its version"
        )
    return found


def _role(kind: Any) -> str | None:
    """What a class is for in a diffusion model, by what it can do."""
    if not isinstance(kind, type):
        return None
    if callable(getattr(kind, "add_noise", None)):
        return "noise_scheduler"
    if not issubclass(kind, nn.Module):
        return None
    if callable(getattr(kind, "encode", None)) and callable(getattr(kind, "decode", None)):
        return "autoencoder"
    taken = inspect.signature(kind.forward).parameters
    needed = {name for name, each in taken.items() if each.default is each.empty and name != "self"}
    return "diffusion" if "timesteps" in taken and needed <= {"x", "timesteps"} else None


def _make(config: ZooConfig, name: str, on_gpu: bool) -> tuple[nn.Module, Path]:
    """A network with its weights, and their file."""
    component = dict(config.content[name])
    if not on_gpu:
        component |= {setting: False for setting in _OF_GPUS if setting in component}
    checkpoint = find_checkpoint(config, name)
    if checkpoint is None:
        raise ValueError(f"bundle: {config.path} says nowhere which checkpoint is loaded into {name}")
    if not checkpoint.path.is_file():
        raise ValueError(
            f"checkpoint: expected the weights of {name} in {checkpoint.path}, but there is no such file; download "
            "the bundle with its large files (python -m monai.bundle download, or large_files.yml)"
        )
    network: nn.Module = config.evaluate(component)
    load_checkpoint(network, checkpoint)
    return network.eval(), checkpoint.path


def _check_channels(config: ZooConfig, network: Any, autoencoder: Any) -> None:
    latents = getattr(autoencoder, "latent_channels", getattr(autoencoder, "embedding_dim", None))
    if latents is not None and int(latents) != int(network.out_channels):
        raise ValueError(
            f"bundle: expected a diffusion network of the autoencoder's {latents} latent channels, got one of "
            f"{network.out_channels}; name the parts of {config.path} that belong together as diffusion and autoencoder"
        )


def _extra_channels(network: Any) -> int:
    """Channels that a network takes beside those that it predicts."""
    return int(network.in_channels) - int(network.out_channels)


def _covariates(config: ZooConfig) -> tuple[str, ...]:
    """Names of the numbers in the row that the bundle conditions on: ``conditioning: $torch.tensor([[@age, ...]])``."""
    for name in ("conditioning", "condition", "conditions"):
        value = config.content.get(name)
        found = re.search(r"\[((?:\s*@\w+\s*,?)+)\]", value) if isinstance(value, str) else None
        if found is not None:
            return tuple(re.findall(r"@(\w+)", found[1]))
    return ()


def _of_metadata(config: ZooConfig) -> tuple[tuple[int, ...], tuple[float, float]]:
    """Size of an image, () where nothing says it, and its range of values, by ``metadata.json``."""
    path = config.root / "configs" / "metadata.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"bundle: {path} is no JSON: {error}") from error
    for block in content.values() if isinstance(content, dict) else ():
        outputs = block.get("outputs", {}) if isinstance(block, dict) else {}
        image = outputs.get("pred", {}) if isinstance(outputs, dict) else {}
        size, ends = image.get("spatial_shape"), image.get("value_range")
        if image.get("type") == "image" and _are_numbers(size) and all(n > 0 for n in size):
            found = (float(ends[0]), float(ends[1])) if _are_numbers(ends) and len(ends) == 2 else (0.0, 1.0)
            return tuple(int(n) for n in size), found
    return (), (0.0, 1.0)


def _are_numbers(value: Any) -> TypeGuard[Sequence[float]]:
    numbers = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
    return numbers and all(isinstance(each, int | float) and math.isfinite(each) for each in value)
