"""Generative bundles as classifiers: their parts are found, and errors are those computed by hand with them."""

from __future__ import annotations

import sys
from importlib import util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as functional
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.bundle import ConfigParser
from monai.networks.schedulers import DDIMScheduler, RFlowScheduler

from monai_diffclf.networks.schedulers import NoiseProcess
from monai_diffclf.zoo import open_generative_bundle, read_parts
from monai_diffclf.zoo.config import own_modules
from tests.zoo.tiny_bundles import SCHEDULE, brain_bundle, cxr_bundle, maisi_bundle, mednist_bundle

GENERATIVE = util.find_spec("generative") is not None
needs_generative = pytest.mark.skipif(not GENERATIVE, reason="the extra generative is not installed")
BRAIN = "grid: {age: [0.1, 0.4, 0.9]}\nshared: {gender: 0.0, ventricular_vol: 0.2, brain_vol: 0.4}\n"
MAISI = """
classes:
  chest: {top_region_index_tensor: [0, 1, 0, 0], bottom_region_index_tensor: [0, 1, 0, 0]}
  abdomen: {top_region_index_tensor: [0, 0, 1, 0], bottom_region_index_tensor: [0, 0, 1, 0]}
shared: {spacing_tensor: [1.5, 1.5, 2.0], class_labels: 1}
"""


def opened(bundle: Path, text: str, device: str = "cpu", **settings):
    path = bundle.parent / "conditions.yaml"
    path.write_text(text)
    return open_generative_bundle(bundle, path, device=device, num_draws=4, **settings)


def by_hand(found, images, predict):
    """Squared epsilon errors [B, K, N] from the bundle's own parts, draw by draw."""
    inferer = found.inferer
    process, latents = inferer.process, inferer.encode(images, found.network).float()
    steps = process.timesteps(inferer.draws.levels)
    random = inferer.draws.random(inferer.keys(images, latents), images.device)
    values = []
    for n, step in enumerate(steps):
        index = torch.arange(len(images))
        noise = inferer.draws.batch_noise(random, index, torch.full_like(index, n), latents.shape[1:])
        noisy = process.add_noise(latents, noise.reshape(latents.shape), step.repeat(len(images)))
        rows = []
        for k in range(inferer.num_conditions):
            prediction = predict(noisy, step, k)
            alpha, sigma = process.alpha_sigma(step[None])
            epsilon = process.to_epsilon(prediction, noisy, alpha, sigma)
            rows.append((epsilon - noise.reshape(latents.shape)).square().flatten(1).mean(1))
        values.append(torch.stack(rows, 1))
    return torch.stack(values, 2)


@pytest.mark.parametrize("origin", ["monai", pytest.param("generative", marks=needs_generative)])
def test_covariates_enter_as_the_bundles_own_sampler_has_them(tmp_path, origin, device):
    bundle = brain_bundle(tmp_path / "brain", origin)
    found = opened(bundle, BRAIN, device)
    images = torch.rand(2, 1, 16, 24, 16, generator=torch.Generator().manual_seed(0)).to(device)
    with own_modules(bundle):
        from scripts.sampler import Sampler
    diffusion = found.get("parts").inner

    def predict(noisy, step, k):
        row = torch.tensor([[[0.0, (0.1, 0.4, 0.9)[k], 0.2, 0.4]]], device=device).expand(len(noisy), -1, -1)
        with torch.no_grad():
            return Sampler().predict(noisy, int(step), diffusion, row)

    result = found.classify(images)
    expected = by_hand(found, images, predict)
    torch.testing.assert_close(result.errors.values, expected.to(result.errors.values), rtol=1e-4, atol=1e-6)
    assert found.classes == ["age=0.1", "age=0.4", "age=0.9"]
    # p(age | image): a softmax of the mean errors, half the number of latent elements of them.
    elements = 3 * 8 * 12 * 8
    posterior = functional.softmax(-0.5 * elements * result.errors.values.double().mean(2), 1)
    torch.testing.assert_close(result.probabilities.double(), posterior, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(result.probabilities.sum(1), torch.ones(2).to(result.probabilities))
    assert "scripts" not in sys.modules or "brain" not in str(sys.modules["scripts"].__path__)


def test_weights_are_those_that_monai_itself_loads(tmp_path):
    bundle = brain_bundle(tmp_path / "brain")
    parts = read_parts(bundle)
    parser = ConfigParser(ConfigParser.load_config_file(bundle / "configs" / "inference.json"))
    parser["bundle_root"], parser["device"] = str(bundle), torch.device("cpu")
    parser.get_parsed_content("load_diffusion"), parser.get_parsed_content("load_autoencoder")
    for ours, name in ((parts.inner, "diffusion"), (parts.latent_space.autoencoder, "autoencoder")):
        theirs = parser.get_parsed_content(name).state_dict()
        assert all(torch.equal(value, theirs[key]) for key, value in ours.state_dict().items())
    assert parts.covariates == ("gender", "age", "ventricular_vol", "brain_vol") and parts.image_size == (16, 24, 16)
    assert parts.notes == ("brain says no scale_factor of its latents: 1 is taken",)


@needs_generative
def test_schedulers_of_the_archived_package_give_what_those_of_monai_give(tmp_path):
    old = read_parts(cxr_bundle(tmp_path / "old", "generative"))
    new = NoiseProcess.of(DDIMScheduler(**SCHEDULE, prediction_type="v_prediction"))
    steps = torch.arange(1000)
    assert torch.equal(NoiseProcess.of(old.scheduler).log_snr(steps), new.log_snr(steps))


@pytest.mark.parametrize("origin", ["monai", pytest.param("generative", marks=needs_generative)])
def test_prompts_of_a_file_and_the_scaling_of_the_sampler(tmp_path, origin, device):
    bundle = cxr_bundle(tmp_path / "cxr", origin)
    tokens = {name: torch.randn(5, 8, generator=torch.Generator().manual_seed(i)) for i, name in enumerate("abc")}
    torch.save(tokens, tmp_path / "prompts.pt")
    found = opened(bundle, "effusion: [a, b]\nnormal: c\n", device, embeddings=str(tmp_path / "prompts.pt"))
    images = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)
    space = found.inferer.latent_space
    with torch.no_grad():
        torch.testing.assert_close(space.encode(images), 0.3 * space.autoencoder.encode(images)[0])

    def predict(noisy, step, k):
        with torch.no_grad():
            context = tokens["abc"[k]][None].to(device)
            return found.network(noisy, timesteps=step[None].to(device), context=context)

    each = by_hand(found, images, predict)
    expected = torch.stack([each[:, :2].mean(1), each[:, 2]], 1)
    result = found.classify(images, error_maps=True)
    torch.testing.assert_close(result.errors.values, expected.to(result.errors.values), rtol=1e-4, atol=1e-6)
    assert result.error_maps.shape == (1, 2, 32, 32) and int(result.network_evaluations[0]) == 3 * 4


def test_prompts_by_a_text_encoder_in_a_local_folder(tmp_path):
    transformers = pytest.importorskip("transformers", reason="the extra transformers is not installed")
    folder = text_encoder(transformers, tmp_path / "clip")
    bundle = cxr_bundle(tmp_path / "cxr", "monai")
    found = opened(bundle, "a: big effusion\nb: no effusion\n", text_encoder=str(folder))
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    model = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    ids = tokenizer(["no effusion"], padding="max_length", max_length=20, return_tensors="pt").input_ids
    with torch.no_grad():
        expected = model(ids)[0][0]
    torch.testing.assert_close(found.get("conditioning").tables["context"][1], expected)
    with pytest.raises(ValueError, match="prompts of at most 20 tokens"):
        opened(bundle, "a: big big big big big big big big big big\nb: no effusion\n", text_encoder=str(folder))


def text_encoder(transformers, folder: Path) -> Path:
    words = [
        "<|startoftext|>",
        "<|endoftext|>",
        *(letter + end for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")),
    ]
    (folder / "vocabulary").mkdir(parents=True)
    vocabulary, merges = folder / "vocabulary" / "vocab.json", folder / "vocabulary" / "merges.txt"
    vocabulary.write_text(str({word: i for i, word in enumerate(words)}).replace("'", '"'))
    merges.write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(vocabulary), str(merges), model_max_length=77)
    tokenizer.save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    settings = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=20, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    transformers.CLIPTextModel(settings).save_pretrained(folder / "text_encoder")
    return folder


def test_maisi(tmp_path, device):
    bundle = maisi_bundle(tmp_path / "maisi")
    found = opened(bundle, MAISI, device)
    parts = found.get("parts")
    assert isinstance(parts.latent_space.autoencoder, AutoencoderKlMaisi)
    assert parts.names["diffusion"] == "diffusion_unet_def" and parts.latent_space.scaling_factor == pytest.approx(0.9)
    ours, theirs = NoiseProcess.of(parts.scheduler), NoiseProcess.of(RFlowScheduler(use_discrete_timesteps=False))
    levels = torch.tensor([0.1, 0.7])
    assert torch.equal(ours.log_snr(ours.timesteps(levels)), theirs.log_snr(theirs.timesteps(levels)))
    images = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0)).to(device)

    def predict(noisy, step, k):
        region = 100 * functional.one_hot(torch.tensor([1 + k]), 4).float().to(device)
        with torch.no_grad():
            return found.network(
                noisy,
                step[None].to(device),
                class_labels=torch.tensor([1], device=device),
                top_region_index_tensor=region,
                bottom_region_index_tensor=region,
                spacing_tensor=torch.tensor([[150.0, 150.0, 200.0]], device=device),
            )

    result = found.classify(images)
    expected = by_hand(found, images, predict)
    torch.testing.assert_close(result.errors.values, expected.to(result.errors.values), rtol=1e-4, atol=1e-6)


def test_class_labels_without_a_latent_space(tmp_path, device):
    bundle = mednist_bundle(tmp_path / "mednist", num_class_embeds=4)
    found = opened(bundle, "hand: 2\nhead: 0\n", device, image_size=[16, 16])
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)).to(device)

    def predict(noisy, step, k):
        with torch.no_grad():
            labels = torch.tensor([(2, 0)[k]], device=device).expand(len(noisy))
            return found.network(noisy, timesteps=step.expand(len(noisy)).to(device), class_labels=labels)

    result = found.classify(images)
    expected = by_hand(found, images, predict)
    torch.testing.assert_close(result.errors.values, expected.to(result.errors.values), rtol=1e-4, atol=1e-6)


def test_unconditional_has_no_classes(tmp_path):
    with pytest.raises(ValueError, match="mednist is unconditional .* it has no classes to compare"):
        opened(mednist_bundle(tmp_path / "mednist"), "a: 0\nb: 1\n", image_size=[16, 16])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [0, 0.1, 0.2, 0.3]\nb: [0, 0.1, 0.2]\n", "expected 4 numbers .gender, age, .* for class 'b', got 3"),
        ("grid: {agee: [0, 1]}\nshared: {gender: 0, ventricular_vol: 0, brain_vol: 0, age: 1}\n", "did you mean age"),
        ("grid: {age: [0, 1]}\nshared: {gender: 0, brain_vol: 0}\n", "got no ventricular_vol"),
        ("grid: {age: [1, 0]}\n", "expected rising values"),
        ("grid: {age: {from: 0, to: 1, steps: 1}}\n", "expected 2 to 1000 steps"),
        ("a: an old brain\nb: a young brain\n", "expected numbers .gender, age, .*, got a prompt"),
        ("a: [0, 0, 0, 1]\nb: [0, 0, 0, 1]\n", "expected others for class 'b' than for 'a', got the same"),
        ("a: [0, 0, 0, 1]\n", "two classes or more"),
        ("a: [0, 0, .nan, 1]\nb: [0, 0, 0, 1]\n", "expected for class 'a'"),
        ("a: {gender: yes, age: 0, ventricular_vol: 0, brain_vol: 0}\nb: [0, 0, 0, 1]\n", "4 finite numbers"),
        ("$a: [0, 0, 0, 0]\nb: [0, 0, 0, 1]\n", "begins with"),
        ("a: [0, 0\n", "cannot read"),
        ("[1, 2]\n", "each class with its condition"),
    ],
)
def test_conditions_that_do_not_fit_covariates(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        opened(brain_bundle(tmp_path / "brain"), text)
    assert "\n" not in str(caught.value)


def test_conditions_that_do_not_fit_classes_or_prompts(tmp_path):
    mednist = mednist_bundle(tmp_path / "mednist", num_class_embeds=4)
    for text, message in {
        "a: a hand\nb: a head\n": "expected a class label 0 to 3 .*, got a prompt",
        "a: 1\nb: 4\n": "expected a class label 0 to 3 .* for class 'b', got 4",
        "a: [1, 2]\nb: [1, 3]\n": "expected a class label 0 to 3",
    }.items():
        with pytest.raises(ValueError, match=message):
            opened(mednist, text, image_size=[16, 16])
    cxr = cxr_bundle(tmp_path / "cxr", "monai")
    with pytest.raises(ValueError, match="prompts need the text encoder .* got neither"):
        opened(cxr, "a: big effusion\nb: none\n")
    torch.save({"a": torch.rand(5, 6), "b": torch.rand(5, 6)}, tmp_path / "prompts.pt")
    with pytest.raises(ValueError, match="expected tokens of width 8"):
        opened(cxr, "x: a\ny: b\n", embeddings=str(tmp_path / "prompts.pt"))
    with pytest.raises(ValueError, match="which has none of 'c'"):
        opened(cxr, "x: a\ny: c\n", embeddings=str(tmp_path / "prompts.pt"))
    with pytest.raises(ValueError, match="text_encoder: expected a local folder of transformers"):
        opened(cxr, "x: a\ny: b\n", text_encoder=str(tmp_path / "nowhere"))


def test_refuses_bundles_that_lack_something(tmp_path):
    with pytest.raises(ValueError, match="generative-bundle: expected a bundle's folder"):
        opened(tmp_path / "nowhere", BRAIN)
    bundle = brain_bundle(tmp_path / "brain")
    with pytest.raises(ValueError, match="diffusion: expected the id of a component .* got other"):
        opened(bundle, BRAIN, diffusion="other")
    weights = bundle / "models" / "model.pt"
    state = torch.load(weights, weights_only=True)
    torch.save({**state, "conv_in.conv.weight": torch.zeros(1)}, weights)
    with pytest.raises(ValueError, match="checkpoint: .*model.pt"):
        opened(bundle, BRAIN)
    weights.unlink()
    with pytest.raises(ValueError, match="expected the weights of diffusion_def in .*model.pt, but there is no such"):
        opened(bundle, BRAIN)
