"""Bundles in the form of the generative ones of MONAI's model zoo, with tiny networks and random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from monai_diffclf.networks import import_generative

DEVICE = "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"
SCHEDULE = {"beta_start": 0.0015, "beta_end": 0.0205, "num_train_timesteps": 1000, "schedule": "scaled_linear_beta"}
ORIGINS = {"monai": "monai.networks", "generative": "generative.networks"}

# The sampler of each, in the words of these tests: one call of the network, as the bundle's own makes it.
BRAIN_SAMPLER = """
import torch


class Sampler:
    def predict(self, noisy, step, diffusion, conditioning):
        maps = conditioning.squeeze(1)[..., None, None, None].expand(-1, -1, *noisy.shape[2:])
        steps = torch.full((len(noisy),), step, device=noisy.device)
        return diffusion(torch.cat((noisy, maps), dim=1), timesteps=steps, context=conditioning)
"""
CXR_SAMPLER = """
import torch


class Sampler:
    def sampling_fn(self, noise, autoencoder, diffusion, scheduler, embeddings, guidance=7.0, scale_factor=0.3):
        raise NotImplementedError
"""
FLOW = """
from monai.networks.schedulers import Scheduler


class RFlowScheduler(Scheduler):
    def __init__(self, num_train_timesteps=1000, use_discrete_timesteps=False, sample_method="uniform", scale=1.0):
        self.num_train_timesteps = num_train_timesteps
        self.use_discrete_timesteps = use_discrete_timesteps

    def add_noise(self, original_samples, noise, timesteps):
        kept = 1 - timesteps.float().reshape(-1, 1, 1, 1, 1) / self.num_train_timesteps
        return kept * original_samples + (1 - kept) * noise
"""


def autoencoder(dims: int, origin: str = "monai") -> dict[str, Any]:
    return {
        "_target_": f"{ORIGINS[origin]}.nets.AutoencoderKL",
        "spatial_dims": dims,
        "in_channels": 1,
        "out_channels": 1,
        "latent_channels": 3,
        "channels" if origin == "monai" else "num_channels": [4, 8],
        "num_res_blocks": 1,
        "norm_num_groups": 4,
        "norm_eps": 1e-06,
        "attention_levels": [False, False],
        "with_encoder_nonlocal_attn": False,
        "with_decoder_nonlocal_attn": False,
    }


def diffusion(dims: int, inputs: int, outputs: int, origin: str = "monai", **more: Any) -> dict[str, Any]:
    return {
        "_target_": f"{ORIGINS[origin]}.nets.DiffusionModelUNet",
        "spatial_dims": dims,
        "in_channels": inputs,
        "out_channels": outputs,
        "channels" if origin == "monai" else "num_channels": [4, 8],
        "num_res_blocks": 1,
        "attention_levels": [False, True],
        "norm_num_groups": 4,
        "norm_eps": 1e-06,
        "num_head_channels": [0, 8],
        **more,
    }


def metadata(size: list[int]) -> dict[str, Any]:
    image = {"type": "image", "num_channels": 1, "spatial_shape": size, "value_range": [0, 1]}
    return {"network_data_format": {"inputs": {}, "outputs": {"pred": image}}}


def brain_bundle(folder: Path, origin: str = "monai") -> Path:
    """Volumes, four covariates as channels and as context; with monai-generative's names of weights."""
    config = {
        "imports": ["$import torch", "$from datetime import datetime", "$from pathlib import Path"],
        "bundle_root": ".",
        "evaluator": "",
        "load_old": 1,
        "model_dir": "$@bundle_root + '/models'",
        "output_dir": "$@bundle_root + '/output'",
        "create_output_dir": "$Path(@output_dir).mkdir(exist_ok=True)",
        "gender": 0.0,
        "age": 0.1,
        "ventricular_vol": 0.2,
        "brain_vol": 0.4,
        "device": DEVICE,
        "conditioning": "$torch.tensor([[@gender, @age, @ventricular_vol, @brain_vol]]).to(@device).unsqueeze(1)",
        "autoencoder_def": autoencoder(3, origin),
        "network_def": "@autoencoder_def",
        "load_autoencoder_path": "$@model_dir + '/autoencoder.pt'",
        "load_autoencoder_func": "$@autoencoder_def.load_old_state_dict if bool(@load_old) else "
        "@autoencoder_def.load_state_dict",
        "load_autoencoder": "$@load_autoencoder_func(torch.load(@load_autoencoder_path))",
        "autoencoder": "$@autoencoder_def.to(@device)",
        "diffusion_def": diffusion(
            3, 7, 3, origin, with_conditioning=True, cross_attention_dim=4, resblock_updown=True
        ),
        "load_diffusion_path": "$@model_dir + '/model.pt'",
        "load_diffusion_func": "$@diffusion_def.load_old_state_dict if bool(@load_old) else "
        "@diffusion_def.load_state_dict",
        "load_diffusion": "$@load_diffusion_func(torch.load(@load_diffusion_path))",
        "diffusion": "$@diffusion_def.to(@device)",
        "scheduler": {
            "_target_": f"{ORIGINS[origin]}.schedulers.DDIMScheduler",
            "_requires_": ["@load_diffusion", "@load_autoencoder"],
            **SCHEDULE,
            "clip_sample": False,
        },
        "noise": "$torch.randn((1, 3, 8, 12, 8)).to(@device)",
        "sampler": {"_target_": "scripts.sampler.Sampler", "_requires_": "@create_output_dir"},
        "sample": "$@sampler.predict(@noise, 10, @diffusion, @conditioning)",
    }
    weights = {"autoencoder_def": "autoencoder.pt", "diffusion_def": "model.pt"}
    return write(folder, config, weights, metadata([16, 24, 16]), {"sampler": BRAIN_SAMPLER})


def cxr_bundle(folder: Path, origin: str = "generative", width: int = 8) -> Path:
    """Planes, prompts; the scaling factor is a default of the sampler."""
    config = {
        "imports": ["$import torch", "$from transformers import CLIPTextModel"],
        "bundle_root": ".",
        "model_dir": "$@bundle_root + '/models'",
        "prompt": "Big right-sided pleural effusion",
        "device": DEVICE,
        "text_encoder": '$CLIPTextModel.from_pretrained("somewhere", subfolder="text_encoder")',
        "autoencoder_def": autoencoder(2, origin),
        "load_autoencoder_path": "$@model_dir + '/autoencoder.pth'",
        "load_autoencoder": "$@autoencoder_def.load_state_dict(torch.load(@load_autoencoder_path))",
        "autoencoder": "$@autoencoder_def.to(@device)",
        "diffusion_def": diffusion(2, 3, 3, origin, with_conditioning=True, cross_attention_dim=width),
        "load_diffusion_path": "$@model_dir + '/diffusion_model.pth'",
        "load_diffusion": "$@diffusion_def.load_state_dict(torch.load(@load_diffusion_path))",
        "diffusion": "$@diffusion_def.to(@device)",
        "scheduler": {
            "_target_": f"{ORIGINS[origin]}.schedulers.DDIMScheduler",
            "_requires_": ["@load_diffusion", "@load_autoencoder"],
            **SCHEDULE,
            "prediction_type": "v_prediction",
            "clip_sample": False,
        },
        "sampler": {"_target_": "scripts.sampler.Sampler"},
    }
    weights = {"autoencoder_def": "autoencoder.pth", "diffusion_def": "diffusion_model.pth"}
    return write(folder, config, weights, metadata([32, 32]), {"sampler": CXR_SAMPLER})


def maisi_bundle(folder: Path) -> Path:
    """Volumes by rectified flow, with the conditions of MAISI; two models in one bundle."""
    networks = "monai.apps.generation.maisi.networks"
    config = {
        "imports": ["$import torch", "$from pathlib import Path", "$import scripts"],
        "bundle_root": ".",
        "model_dir": "$@bundle_root + '/models'",
        "device": DEVICE,
        "trained_autoencoder_path": "$@model_dir + '/autoencoder_epoch273.pt'",
        "trained_diffusion_path": "$@model_dir + '/diff_unet.pt'",
        "spatial_dims": 3,
        "latent_channels": 4,
        "autoencoder_def": {
            "_target_": f"{networks}.autoencoderkl_maisi.AutoencoderKlMaisi",
            "spatial_dims": "@spatial_dims",
            "in_channels": 1,
            "out_channels": 1,
            "latent_channels": "@latent_channels",
            "num_channels": [4, 8, 8],
            "num_res_blocks": [1, 1, 1],
            "norm_num_groups": 4,
            "norm_eps": 1e-06,
            "attention_levels": [False, False, False],
            "with_encoder_nonlocal_attn": False,
            "with_decoder_nonlocal_attn": False,
            "norm_float16": True,
            "num_splits": 1,
            "dim_split": 1,
        },
        "diffusion_unet_def": {
            "_target_": f"{networks}.diffusion_model_unet_maisi.DiffusionModelUNetMaisi",
            "spatial_dims": "@spatial_dims",
            "in_channels": "@latent_channels",
            "out_channels": "@latent_channels",
            "num_channels": [4, 8],
            "attention_levels": [False, True],
            "num_head_channels": [0, 8],
            "num_res_blocks": 1,
            "norm_num_groups": 4,
            "use_flash_attention": True,
            "include_top_region_index_input": True,
            "include_bottom_region_index_input": True,
            "include_spacing_input": True,
            "num_class_embeds": 128,
            "resblock_updown": True,
            "include_fc": True,
        },
        "mask_generation_diffusion_def": diffusion(3, 4, 4, with_conditioning=True, cross_attention_dim=10),
        "autoencoder": "$@autoencoder_def.to(@device)",
        "checkpoint_autoencoder": "$torch.load(@trained_autoencoder_path, weights_only=True)",
        "load_autoencoder": "$@autoencoder.load_state_dict(@checkpoint_autoencoder)",
        "diffusion_unet": "$@diffusion_unet_def.to(@device)",
        "checkpoint_diffusion_unet": "$torch.load(@trained_diffusion_path, weights_only=False)",
        "load_diffusion": "$@diffusion_unet.load_state_dict(@checkpoint_diffusion_unet['unet_state_dict'])",
        "scale_factor": "$@checkpoint_diffusion_unet['scale_factor'].to(@device)",
        "noise_scheduler": {
            "_target_": "scripts.rectified_flow.RFlowScheduler",
            "num_train_timesteps": 1000,
            "use_discrete_timesteps": False,
            "sample_method": "logit-normal",
            "scale": 1.2,
        },
        "ldm_sampler": {
            "_target_": "scripts.sample.LDMSampler",
            "_requires_": ["@load_diffusion", "@load_autoencoder"],
        },
    }
    weights = {"autoencoder_def": "autoencoder_epoch273.pt", "diffusion_unet_def": "diff_unet.pt"}
    bundle = write(folder, config, weights, metadata([16, 16, 16]), {"rectified_flow": FLOW})
    path = bundle / "models" / "diff_unet.pt"
    state = torch.load(path, weights_only=True)
    torch.save({"epoch": 3, "scale_factor": torch.tensor(0.9), "unet_state_dict": state}, path)
    return bundle


def mednist_bundle(folder: Path, **more: Any) -> Path:
    """Planes without a latent space, unconditional unless settings of the network say more; YAML."""
    config = {
        "imports": ["$import torch", "$import scripts", "$import monai", None],
        "image": "$monai.utils.CommonKeys.IMAGE",
        "device": DEVICE,
        "network_def": diffusion(2, 1, 1, **more),
        "network": "$@network_def.to(@device)",
        "bundle_root": ".",
        "ckpt_path": "$@bundle_root + '/models/model.pt'",
        "num_train_timesteps": 1000,
        "scheduler": {
            "_target_": "monai.networks.schedulers.DDPMScheduler",
            "num_train_timesteps": "@num_train_timesteps",
        },
        "inferer": {"_target_": "monai.inferers.DiffusionInferer", "scheduler": "@scheduler"},
        "load_state": "$@network.load_state_dict(torch.load(@ckpt_path, weights_only = True))",
        "testing": ["@load_state"],
    }
    bundle = write(folder, config, {"network_def": "model.pt"}, {}, {})
    ConfigParser.export_config_file(config, bundle / "configs" / "inference.yaml", fmt="yaml")
    (bundle / "configs" / "inference.json").unlink()
    return bundle


def write(
    folder: Path, config: dict[str, Any], weights: dict[str, str], about: dict[str, Any], scripts: dict[str, str]
) -> Path:
    """Write a bundle, with random weights under monai-generative's names where its configuration asks for those."""
    for name in ("configs", "models", "scripts"):
        (folder / name).mkdir(parents=True)
    (folder / "configs" / "inference.json").write_text(json.dumps(config, indent=4))
    (folder / "configs" / "metadata.json").write_text(json.dumps(about))
    (folder / "scripts" / "__init__.py").write_text("")
    for name, text in scripts.items():
        (folder / "scripts" / f"{name}.py").write_text(text)
    if "generative." in json.dumps(config):
        import_generative()
    for seed, (name, file) in enumerate(weights.items()):
        component = (
            {**config[name], "use_flash_attention": False} if "use_flash_attention" in config[name] else config[name]
        )
        network = ConfigParser(
            {**{k: config[k] for k in ("spatial_dims", "latent_channels") if k in config}, "made": component}
        )
        state = randomised(network.get_parsed_content("made"), seed).state_dict()
        if config.get("load_old") and "monai." in component["_target_"]:
            state = {old_name(each): value for each, value in state.items()}
        torch.save(state, folder / "models" / file)
    return folder


def randomised(network: torch.nn.Module, seed: int) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.2, generator=generator)
    return network.eval()


def old_name(name: str) -> str:
    """The name of a weight in monai-generative."""
    name = name.replace(".postconv.", ".conv.")
    return name.replace(".out_proj.", ".to_out.0.") if ".transformer_blocks." in name else name.replace(".attn.", ".")
