# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Weights of networks that were trained with monai-generative, MONAI's former home of diffusion models."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

import torch
from monai.networks.nets import DiffusionModelUNet

from .weights_content import read_tensors

__all__ = ["load_generative_checkpoint"]


def load_generative_checkpoint(
    network: DiffusionModelUNet, state_dict_or_path: Mapping[str, torch.Tensor] | str | os.PathLike[str]
) -> None:
    """Load a state dict of monai-generative's `DiffusionModelUNet` into MONAI's, so that the predictions are the same.

    Every weight must find its place, unlike in `DiffusionModelUNet.load_old_state_dict`, which leaves weights without a
    counterpart as they were and takes its entries out of the dict that it is given. The self-attention of
    monai-generative holds a projection, ``proj_attn``, that it never applies (MONAI issue 7991): build the network with
    ``include_fc=False``, or, with cross-attention, whose projection is applied, with ``include_fc=True``.

    Args:
        network: the network to load into, ``channels`` being the old ``num_channels``. For a `WaveletDiffusionUNet`,
            its ``unet``.
        state_dict_or_path: the old state dict, left as it is, or a file of it.

    Raises:
        TypeError: when ``network`` is not a `DiffusionModelUNet`, or there is no state dict.
        ValueError: when the network was built with settings under which the numbers would differ; it is left as it was.

    Example:
        >>> settings = dict(spatial_dims=2, in_channels=1, out_channels=1, channels=(8,), attention_levels=(False,),
        ...     num_res_blocks=1, norm_num_groups=4, num_head_channels=8)
        >>> network = DiffusionModelUNet(**settings, include_fc=False)
        >>> old = {key.replace(".attn.", "."): value for key, value in network.state_dict().items()}
        >>> load_generative_checkpoint(network, old)
    """
    if not isinstance(network, DiffusionModelUNet):
        raise TypeError(
            f"network: expected a monai.networks.nets.DiffusionModelUNet, got {type(network).__name__}; "
            "of a WaveletDiffusionUNet pass its .unet"
        )
    old = _read(state_dict_or_path)
    own = network.state_dict()
    _check_settings(own.keys(), old)
    names = {name: _old_name(name) for name in own}
    missing = [name for name, was in names.items() if was not in old]
    # proj_attn is the one thing that monai-generative saves and never uses.
    left = [name for name in old.keys() - set(names.values()) if ".proj_attn." not in name]
    shapes = [name for name, was in names.items() if was in old and own[name].shape != old[was].shape]
    for problem, found in (("lacks", missing), ("also holds", left), ("has other shapes of", shapes)):
        if found:
            raise ValueError(
                f"network: expected the settings that the checkpoint was trained with, but the checkpoint {problem} "
                f"{sorted(found)[:3]}, {len(found)} in all; compare channels, num_res_blocks, attention_levels, "
                "with_conditioning and num_class_embeds"
            )
    network.load_state_dict({name: old[was] for name, was in names.items()})


def _read(state_dict_or_path: Mapping[str, torch.Tensor] | str | os.PathLike[str]) -> Mapping[str, torch.Tensor]:
    if isinstance(state_dict_or_path, (str, os.PathLike)):
        return read_tensors(state_dict_or_path)
    if not isinstance(state_dict_or_path, Mapping):
        raise TypeError(f"state_dict_or_path: expected a state dict, got {type(state_dict_or_path).__name__}")
    return state_dict_or_path


def _old_name(name: str) -> str:
    """Name in monai-generative of a weight of MONAI's network."""
    name = name.replace(".postconv.", ".conv.")
    if ".transformer_blocks." in name:
        return name.replace(".out_proj.", ".to_out.0.")
    return name.replace(".attn.", ".")


def _check_settings(own: Collection[str], old: Collection[str]) -> None:
    """Name the setting to change where one explains why the weights do not fit."""

    def holds(names: Collection[str], part: str) -> bool:
        return any(part in name for name in names)

    if holds(old, ".attn.to_") or holds(old, ".postconv."):
        raise ValueError(
            "state_dict_or_path: expected monai-generative's names, got those of MONAI itself; "
            "call network.load_state_dict(...)"
        )
    if holds(own, ".qkv."):
        raise ValueError(
            "network: expected use_combined_linear=False, as monai-generative's attention has a layer each for query, "
            "key and value; build it so"
        )
    if holds(old, ".proj_attn.") and holds(own, ".attn.out_proj."):
        raise ValueError(
            "network: expected include_fc=False, as monai-generative's self-attention has no projection in use; "
            "build the network with it"
        )
    if holds(old, ".attn1.to_out.") and holds(own, ".attn1.") and not holds(own, ".attn1.out_proj."):
        raise ValueError(
            "network: expected include_fc=True, as monai-generative's cross-attention ends with a projection; "
            "build the network with it"
        )
