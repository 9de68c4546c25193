"""Pipelines as classifiers: what diffusers' own pipeline, scheduler and network make by hand is the oracle."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from monai_diffclf.classification import CurtailedVote
from monai_diffclf.inferers import DiffusionClassifierInferer, provenance
from monai_diffclf.networks import Denoiser
from monai_diffclf.networks.schedulers import NoiseProcess
from monai_diffclf.pipelines import open_diffusers_pipeline
from monai_diffclf.sampling import sample_classes
from tests.pipelines.tiny_pipelines import KINDS, PROMPTS, make_pipeline, write_pipeline

EVERY = ["a normal x-ray", "effusion left", "effusion right", "fluid"]


def images(channels: int = 3, count: int = 2) -> torch.Tensor:
    return torch.rand(count, channels, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def network_of(pipe):
    return pipe.transformer if hasattr(pipe, "transformer") else pipe.unet


def by_hand(pipe, text: str, noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """What the network of diffusers predicts of noisy latents under a prompt."""
    extra = {name: None for name in ("prompt_2", "prompt_3") if hasattr(pipe, name.replace("prompt", "tokenizer"))}
    made = pipe.encode_prompt(
        text, **extra, device=noisy.device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    tokens = made[0].expand(len(noisy), -1, -1)
    if hasattr(pipe, "transformer"):
        pooled = made[2].expand(len(noisy), -1)
        call = {"encoder_hidden_states": tokens, "pooled_projections": pooled, "timestep": timesteps}
        return pipe.transformer(noisy, **call).sample
    added = None
    if len(made) == 4:
        sizes = noisy.new_tensor([[16.0, 16.0, 0.0, 0.0, 16.0, 16.0]]).expand(len(noisy), -1)
        added = {"text_embeds": made[2].expand(len(noisy), -1), "time_ids": sizes}
    return pipe.unet(noisy, timesteps, encoder_hidden_states=tokens, added_cond_kwargs=added).sample


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_predictions_are_those_of_the_network_called_by_hand(kind, pipeline_folder, device):
    pipe = make_pipeline(kind).to(device)
    opened = open_diffusers_pipeline(pipeline_folder(kind), PROMPTS, device=device)
    x = images().to(device)
    latents = opened.latent_space.encode(x)
    code = pipe.vae.encode(x).latent_dist.mode() - (pipe.vae.config.shift_factor or 0)
    torch.testing.assert_close(latents, code * pipe.vae.config.scaling_factor, rtol=1e-5, atol=1e-6)
    process = NoiseProcess.of(opened.scheduler)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1)).to(device)
    timesteps = process.timesteps(torch.tensor([0.1, 0.7])).to(device)
    if kind.startswith("sd3"):
        timesteps = pipe.scheduler.timesteps[torch.tensor([100, 800])].to(device)  # shifted as its training was
        noisy = pipe.scheduler.scale_noise(latents, timesteps, noise)
    else:
        plain = type(make_pipeline("sd1").scheduler).from_config(pipe.scheduler.config)  # of Euler the same noise
        noisy = plain.add_noise(latents, noise, timesteps)
    torch.testing.assert_close(process.add_noise(latents, noise, timesteps), noisy, rtol=1e-5, atol=1e-5)
    denoiser = Denoiser(opened.network, process, 4, conditioning=opened.by_prompt, device=device)
    for label, text in enumerate(EVERY):
        labels = torch.full((2,), label, device=device)
        expected = by_hand(pipe, text, noisy, timesteps)
        sign = -1 if kind.startswith("sd3") else 1
        torch.testing.assert_close(denoiser.predict(noisy, timesteps, labels), sign * expected, rtol=1e-4, atol=1e-5)
        alpha, sigma = (each.float().reshape(-1, 1, 1, 1) for each in process.alpha_sigma(timesteps))
        epsilon = {
            "epsilon": expected,
            "v_prediction": alpha * expected + sigma * noisy,  # Salimans and Ho
            "flow": noisy + alpha * expected,  # z = (1 - s) x + s epsilon and u = epsilon - x
        }["flow" if kind.startswith("sd3") else process.prediction_type]
        torch.testing.assert_close(denoiser.epsilon(noisy, timesteps, labels), epsilon, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_pipeline_itself_calls_its_network_like_this(kind, pipeline_folder):
    """Sampling with diffusers is watched: what its network is given, ours is given, and they predict the same."""
    pipe, opened = make_pipeline(kind), open_diffusers_pipeline(pipeline_folder(kind), PROMPTS)
    pipe.set_progress_bar_config(disable=True)
    seen = []

    def watch(module, args, kwargs, output):
        seen.append((args, kwargs, output[0]))

    hook = network_of(pipe).register_forward_hook(watch, with_kwargs=True)
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    pipe(EVERY[1], height=16, width=16, num_inference_steps=2, guidance_scale=1.0, latents=start, output_type="latent")
    hook.remove()
    assert len(seen) >= 2
    denoiser = Denoiser(opened.network, opened.scheduler, 4, conditioning=opened.by_prompt)
    for args, kwargs, output in seen:
        noisy = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        timestep = kwargs["timestep"] if "timestep" in kwargs else args[1]
        ours = denoiser.predict(noisy, timestep.reshape(-1)[:1].to(torch.float32), torch.tensor([1]))
        torch.testing.assert_close(-ours if kind.startswith("sd3") else ours, output, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@torch.no_grad()
def test_the_null_class_is_the_pipelines_own(kind, pipeline_folder):
    """In SDXL no prompt is zeros, in others the empty text."""
    pipe, opened = make_pipeline(kind), open_diffusers_pipeline(pipeline_folder(kind), PROMPTS)
    null = pipe.encode_prompt("x", device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True)[1]
    torch.testing.assert_close(opened.conditioning(torch.tensor([2]))["context"], null)
    assert bool(null.any()) == (kind == "sd1")


@torch.no_grad()
def test_both_ways_to_average_prompts(pipeline_folder, device):
    opened = open_diffusers_pipeline(pipeline_folder("sd2"), PROMPTS, channels=1, device=device)
    assert (opened.kind, opened.classes, opened.num_classes) == (
        "StableDiffusionPipeline",
        ["normal", "effusion"],
        2,
    )
    assert opened.prompts_per_class == [1, 3]
    x = images(1).to(device)
    prompts = dict(zip("abcd", EVERY, strict=True))
    single = open_diffusers_pipeline(pipeline_folder("sd2"), prompts, channels=1, device=device)
    each = single.inferer(num_draws=5).compute_errors(x, single.network).values
    expected = torch.stack([each[:, 0], each[:, 1:].mean(1)], 1)
    result = opened.classify(x, num_draws=5)
    torch.testing.assert_close(result.errors.values, expected, rtol=1e-4, atol=1e-6)
    assert result.network_evaluations.tolist() == [20, 20]
    mean = {name: table[1:4].mean(0) for name, table in opened.by_prompt.tables.items()}
    averaged = opened.inferer("embeddings", num_draws=5)
    torch.testing.assert_close(averaged.conditioning(torch.tensor([1]))["context"][0], mean["context"])
    other = averaged.classify(x, opened.network)
    assert other.network_evaluations.tolist() == [10, 10]
    assert not torch.equal(other.errors.values[:, 1], result.errors.values[:, 1])
    torch.testing.assert_close(other.errors.values[:, 0], result.errors.values[:, 0], rtol=1e-4, atol=1e-6)
    ways = [provenance(opened.inferer(way), opened.network) for way in ("errors", "embeddings")]
    assert ways[0] != ways[1]
    with pytest.raises(ValueError, match=r"prompt_average: expected one of \['errors', 'embeddings'\], got 'mean'"):
        opened.inferer("mean")


def test_maps_stopping_precision_and_samples(pipeline_folder, device):
    opened = open_diffusers_pipeline(pipeline_folder("sdxl"), PROMPTS, channels=1, device=device)
    x = images(1).to(device)
    result = opened.classify(x, num_draws=3, error_maps=True, map_smoothing=0, map_weighting=None, rule="mean")
    assert result.error_maps.shape == (2, 2, 16, 16)
    torch.testing.assert_close(result.error_maps.double().sum((2, 3)), 64 * result.mean_error, rtol=1e-4, atol=1e-5)
    stopped = opened.classify(x, num_draws=9, stopping=CurtailedVote())
    assert torch.equal(stopped.predicted, opened.classify(x, num_draws=9).predicted)
    half = opened.classify(x, num_draws=3, amp_dtype=torch.bfloat16)
    assert torch.equal(half.predicted, opened.classify(x, num_draws=3).predicted)
    drawn = sample_classes(
        opened.network,
        opened.scheduler,
        torch.tensor([0, 1], device=device),
        (4, 8, 8),
        num_classes=2,
        num_steps=2,
        conditioning=opened.conditioning,
        latent_space=opened.latent_space,
    )
    assert drawn.shape == (2, 1, 16, 16)


def test_weights_in_half_precision(pipeline_folder, device):
    whole = open_diffusers_pipeline(pipeline_folder("sd1"), PROMPTS, device=device)
    half = open_diffusers_pipeline(pipeline_folder("sd1"), PROMPTS, device=device, dtype=torch.bfloat16)
    assert {each.dtype for each in half.network.parameters()} == {torch.bfloat16}
    values = [
        each.inferer(num_draws=3).compute_errors(images().to(device), each.network).values for each in (whole, half)
    ]
    torch.testing.assert_close(values[1], values[0], rtol=0.1, atol=0.02)


def test_a_plain_inferer_takes_the_parts(pipeline_folder):
    opened = open_diffusers_pipeline(pipeline_folder("sd3_t5"), {"a": "clear", "b": "opaque"})
    settings = {"num_draws": 3, "batch_size": 8}
    inferer = DiffusionClassifierInferer(
        opened.scheduler, 2, conditioning=opened.conditioning, latent_space=opened.latent_space, **settings
    )
    assert repr(opened) == "DiffusersPipeline(StableDiffusion3Pipeline, {'a': ('clear',), 'b': ('opaque',)})"
    assert torch.equal(inferer(images(), opened.network), opened.classify(images(), num_draws=3).probabilities)


@pytest.mark.parametrize(
    ("prompts", "error", "message"),
    [
        ({"a": "x"}, ValueError, "classes: expected two or more"),
        (["a", "b"], TypeError, "prompts: expected a dictionary of each class to its prompt or prompts, got list"),
        ({"a": "x", "b": 3}, TypeError, "prompts: expected text or a list of texts for class 'b', got 3"),
        ({"a": "x", "b": []}, ValueError, "prompts: expected one prompt or more for class 'b', none empty"),
        ({"a": " ", "b": "x"}, ValueError, "prompts: expected one prompt or more for class 'a', none empty"),
        ({"a": ["x", "x"], "b": "y"}, ValueError, "prompts: expected different prompts for class 'a'"),
        ({"a": ["x", "y"], "b": ["y", "x"]}, ValueError, "prompts: expected other prompts for class 'b' than for"),
    ],
)
def test_refuses_prompts(prompts, error, message, tmp_path):
    with pytest.raises(error, match=message):
        open_diffusers_pipeline(tmp_path, prompts)


@pytest.mark.parametrize("kind", ["sd1", "sdxl", "sd3_t5"])
def test_a_long_prompt_is_refused_not_cut(kind, pipeline_folder):
    fits = open_diffusers_pipeline(pipeline_folder(kind), {"a": "x" * 75, "b": "y"})
    assert fits.by_prompt.tables["context"].shape[1] == (77 + 256 if kind == "sd3_t5" else 77)
    too_long = "prompts: expected prompts of at most 77 tokens, which tokenizer takes, got 78 in 'x"
    with pytest.raises(ValueError, match=too_long):
        open_diffusers_pipeline(pipeline_folder(kind), {"a": "x" * 76, "b": "y"})


def test_tokenizers_in_the_files_of_published_pipelines(pipeline_folder, tmp_path):
    """A vocabulary and merges, as Stable Diffusion's folders have them, in place of one file."""
    folder = shutil.copytree(pipeline_folder("sd1"), tmp_path / "copy")
    file = folder / "tokenizer" / "tokenizer.json"
    (file.with_name("vocab.json")).write_text(json.dumps(json.loads(file.read_text())["model"]["vocab"]))
    (file.with_name("merges.txt")).write_text("#version: 0.2\n")
    file.unlink()
    tables = [open_diffusers_pipeline(each, PROMPTS).by_prompt.tables for each in (folder, pipeline_folder("sd1"))]
    assert torch.equal(tables[0]["context"], tables[1]["context"])


@pytest.fixture
def broken(pipeline_folder, tmp_path):
    """A copy of a pipeline's folder, to break."""
    return shutil.copytree(pipeline_folder("sd1"), tmp_path / "copy")


def refused(folder, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        open_diffusers_pipeline(folder, PROMPTS)
    assert "\n" not in str(caught.value)


def test_folders_without_a_part_are_refused(broken, tmp_path):
    refused(tmp_path / "nowhere", "folder: expected a local folder with model_index.json, .* nothing is downloaded")
    weights = next((broken / "unet").glob("*.safetensors"))
    weights.rename(weights.with_suffix(".bin"))
    refused(broken, "folder: expected safetensors in .*unet, got none; other files are not opened")
    weights.with_suffix(".bin").rename(weights)
    shutil.rmtree(broken / "text_encoder")
    refused(broken, "folder: expected a folder text_encoder in .*, which its model_index.json names; copy it too")


def test_other_pipelines_and_classes_are_refused(broken):
    file = broken / "model_index.json"
    index = json.loads(file.read_text())
    for change, message in (
        ({"_class_name": "FluxPipeline"}, "folder: expected one of .* got 'FluxPipeline'"),
        ({"unet": ["evil", "Network"]}, "folder: expected unet of diffusers or transformers in"),
        ({"unet": ["diffusers", "UNet2DModel"]}, r"folder: expected as unet one of \['UNet2DConditionModel'\]"),
        ({"unet": [None, None]}, "folder: expected unet of diffusers or transformers in"),
    ):
        file.write_text(json.dumps({**index, **change}))
        refused(broken, message)
    file.write_text("[]")
    refused(broken, "folder: expected a JSON object in .*, got list")
    file.write_text("{")
    refused(broken, "folder: expected JSON in")


def test_missing_weights_are_refused_not_made_up(broken):
    from safetensors.torch import load_file, save_file

    for part in ("unet", "text_encoder"):
        file = next((broken / part).glob("*.safetensors"))
        tensors = load_file(file)
        name = sorted(name for name in tensors if name.endswith("weight"))[0]
        save_file({key: value for key, value in tensors.items() if key != name}, file, metadata={"format": "pt"})
        refused(broken, f"folder: expected all weights of .* in .*{part}, 1 are missing: .*weight")
        save_file(tensors, file, metadata={"format": "pt"})
    assert open_diffusers_pipeline(broken, PROMPTS).num_classes == 2


def test_parts_of_different_pipelines_are_refused(tmp_path):
    pytest.importorskip("diffusers", reason="the extra diffusers is not installed")
    folder = write_pipeline(tmp_path / "wide", "sd1", cross_attention_dim=12)
    refused(folder, "folder: expected text encoders that give context of width 12, which the unet takes, got 8")
    folder = write_pipeline(tmp_path / "inpainting", "sd1", in_channels=9)
    refused(folder, "folder: expected a network of the 4 latent channels of its vae, got one of 9")
    folder = write_pipeline(tmp_path / "upscaler", "sd1", num_class_embeds=3)
    refused(folder, "folder: expected a U-Net of noisy latents, timesteps and prompts, got one with num_class_embeds")


def test_the_extra_is_named(pipeline_folder, monkeypatch):
    folder = pipeline_folder("sd1")
    monkeypatch.setattr("monai_diffclf._optional.util.find_spec", lambda name: None)
    refused(folder, r"needs the package diffusers; install it with: pip install 'monai-diffclf\[diffusers\]'")
