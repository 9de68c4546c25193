# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Weights of networks that were trained with monai-generative, MONAI's former home of diffusion models."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from monai.networks.nets import DiffusionModelUNet

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
        >>> load_generative_checkpoint(DiffusionModelUNet(**settings), old | {"middle_block.attention.proj_attn.bias": 0})
        Traceback (most recent call last):
        ValueError: network: expected include_fc=False, as monai-generative's self-attention has no projection; build ...
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
    for problem, found in (("lacks", missing), ("has no place for", left), ("has other shapes of", shapes)):
        if found:
            subject = "state dict" if problem == "lacks" else "network"
            raise ValueError(
                f"network: expected the settings that the checkpoint was trained with, but the {subject} {problem} "
                f"{sorted(found)[:3]}, {len(found)} in all; compare channels, num_res_blocks, attention_levels, "
                "num_head_channels, with_conditioning and num_class_embeds"
            )
    network.load_state_dict({name: old[was] for name, was in names.items()})


def _read(state_dict_or_path: Mapping[str, torch.Tensor] | str | os.PathLike[str]) -> Mapping[str, torch.Tensor]:
    if isinstance(state_dict_or_path, (str, os.PathLike)):
        state_dict_or_path = torch.load(state_dict_or_path, map_location="cpu", weights_only=True)
    if not isinstance(state_dict_or_path, Mapping):
        raise TypeError(f"state_dict_or_path: expected a state dict, got {type(state_dict_or_path).__name__}")
    return state_dict_or_path


def _old_name(name: str) -> str:
    """Name in monai-generative of a weight of MONAI's network."""
    name = name.replace(".postconv.", ".conv.")
    if ".transformer_blocks." in name:
        return name.replace(".out_proj.", ".to_out.0.")
    return name.replace(".attn.", ".")


def _check_settings(own: Mapping[str, object] | object, old: Mapping[str, torch.Tensor]) -> None:
    raise NotImplementedError
