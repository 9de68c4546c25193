"""``classify --generative-bundle`` with a pipeline's folder: probabilities are those of the Python API, bad input ends
in one line."""

from __future__ import annotations

import csv
import json
import shutil
from importlib import util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_diffclf.archive import ClassifierSettings, plan
from monai_diffclf.commands import main
from monai_diffclf.pipelines import add_lora, open_diffusers_pipeline, save_pipeline_weights
from monai_diffclf.zoo import open_generative_bundle
from tests.pipelines.tiny_pipelines import KINDS, PROMPTS

TEXT = "normal: a normal x-ray\neffusion: [effusion left, effusion right, fluid]\n"


@pytest.fixture
def classify(tmp_path, monkeypatch, capsys, device):
    """Function that writes the conditions, and runs the command in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(folder: Path, text: str, *words: str) -> tuple[int, str, str]:
        Path("conditions.yaml").write_text(text)
        capsys.readouterr()  # what making the pipeline said
        options = ["--generative-bundle", str(folder), "--conditions", "conditions.yaml", "--output", "out"]
        code = main(["classify", "images", *options, "--draws", "3", "--device", device, "--no-progress", *words])
        return code, *capsys.readouterr()

    return run


def write_images(*shape: int) -> list[str]:
    """Two pictures of noise in the folder "images"."""
    Path("images").mkdir()
    paths = [f"images/{n}.png" for n in range(2)]
    for n, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(n).integers(0, 256, shape, dtype=np.uint8)).save(path)
    return paths


def probabilities() -> torch.Tensor:
    with open("out/predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return torch.tensor([[float(row[f"probability_{name}"]) for name in PROMPTS] for row in rows])


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_those_of_the_python_api(classify, pipeline_folder, device, kind):
    paths = write_images(16, 16)
    code, said, error = classify(pipeline_folder(kind), TEXT)
    assert code == 0 and not error, error
    assert said.startswith("2 of 2 images classified: ")
    opened = open_generative_bundle(pipeline_folder(kind), "conditions.yaml", num_draws=3, device=device)
    assert (opened.classes, opened.image_size, opened.channels) == (list(PROMPTS), (16, 16), 3)
    images = opened.read(paths)
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in paths])
    torch.testing.assert_close(images, (pixels / 127.5 - 1)[:, None].expand(-1, 3, -1, -1), rtol=0, atol=1e-6)
    pipeline = open_diffusers_pipeline(pipeline_folder(kind), PROMPTS, device=device)
    expected = pipeline.classify(images.to(device), num_draws=3, rule="mean")
    torch.testing.assert_close(probabilities(), expected.probabilities.float().cpu(), rtol=0, atol=1e-4)
    torch.testing.assert_close(opened.classify(images).errors.values, expected.errors.values, rtol=1e-4, atol=1e-6)


def trained(folder: Path, lora: bool) -> str:
    """A file of weights that differ from those of the folder."""
    network = open_diffusers_pipeline(folder, PROMPTS).network
    if lora:
        add_lora(network, rank=2)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "lora_B" in name or (not lora and "weight" in name):
                weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    save_pipeline_weights(network, "trained.safetensors")
    return "trained.safetensors"


@pytest.mark.parametrize(
    ("words", "opening", "settings"),
    [
        (("channels=1",), {"channels": 1}, {}),
        (("prompt_average=embeddings",), {}, {"prompt_average": "embeddings"}),
        (("rule=vote", "weighting=elbo", "temperature=9"), {}, {"rule": "vote", "weighting": "elbo", "temperature": 9}),
        (("precision=bfloat16",), {"dtype": torch.bfloat16}, {}),
        (("amp=yes",), {}, {"amp_dtype": torch.bfloat16}),
        (("lora",), {}, {}),
        (("whole",), {}, {}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_settings_are_those_of_the_python_api(classify, pipeline_folder, device, words, opening, settings):
    folder = pipeline_folder("sd1")
    if words[0] == "lora":
        pytest.importorskip("peft", reason="the extra diffusers is not installed: no package peft")
    paths = write_images(8, 16)
    words = ("image_size=[8,16]", *words)
    if words[-1] in ("lora", "whole"):
        opening = {"weights": trained(folder, words[-1] == "lora")}
        words = (*words[:-1], f"weights={opening['weights']}")
    code, _, error = classify(folder, TEXT, *(each for word in words for each in ("--set", word)), "--maps", "none")
    assert code == 0, error
    channels = opening.get("channels", 3)
    reader = open_generative_bundle(folder, "conditions.yaml", channels=channels, image_size=[8, 16])
    images = reader.read(paths).to(device)
    assert images.shape == (2, channels, 8, 16)
    pipeline = open_diffusers_pipeline(folder, PROMPTS, device=device, **opening)
    result = pipeline.classify(images, **{"num_draws": 3, "rule": "mean", **settings}).probabilities
    torch.testing.assert_close(probabilities(), result.float().cpu(), rtol=0, atol=1e-4)
    if words[-1] not in ("channels=1", "amp=yes"):  # so few latents are all near ties, made again in float32
        plain = open_diffusers_pipeline(folder, PROMPTS, device=device).classify(images, num_draws=3, rule="mean")
        assert (plain.probabilities.float().cpu() - probabilities()).abs().max() > 1e-4, "the setting is without effect"


def test_outputs_are_complete(classify, pipeline_folder):
    write_images(36, 40, 3)
    code, said, error = classify(pipeline_folder("sd2"), TEXT, "--maps", "npy")
    assert code == 0, error
    assert said.splitlines()[1] == f"by the weights {pipeline_folder('sd2')}"
    found = json.loads(Path("out/predictions.json").read_text())
    assert found["conditions"] == {name: [each] if isinstance(each, str) else [*each] for name, each in PROMPTS.items()}
    assert (found["bundle"], found["classes"], found["classified"]) == ("sd2", list(PROMPTS), 2)
    for row in found["predictions"]:
        assert row["probability_normal"] + row["probability_effusion"] == pytest.approx(1, abs=2e-6)
        assert row["network_evaluations"] == 3 * 4
        decision = np.load(Path("out", row["map"]))
        assert decision.shape == (36, 40) and np.isfinite(decision).all() and decision.std() > 0
    assert "Prompts compared by a text-to-image model" in Path("out/cases.html").read_text()
    code, said, _ = classify(pipeline_folder("sd2"), TEXT, "--maps", "npy")
    assert code == 0 and "an earlier run had done it" in said
    code, _, error = classify(pipeline_folder("sd2"), TEXT.replace("fluid", "water"), "--maps", "npy")
    assert code == 2 and "results of another run (other settings)" in error


def refused(answer: tuple[int, str, str], message: str) -> None:
    code, said, error = answer
    assert code == 2 and not said and error.count("\n") == 1 and message in error, error
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {age: 0.4}\nb: x\n", "expected a prompt, or a list of prompts, for class 'a', as a pipeline of diffusers"),
        ("grid: {age: [1, 2]}\n", "for class 'age=1', as a pipeline of diffusers is told nothing else, got {'age': 1"),
        ("a: 1\nb: 2\n", "a pipeline of diffusers is told nothing else, got 1"),
        ("classes: {a: x, b: y}\nshared: {age: 1}\n", "expected nothing under shared, as class 'a' is not said in"),
        ("a:\nb: x\n", "expected for class 'a' a prompt"),
        ("a: ''\nb: x\n", "got an empty text"),
        ("a: x\n", "expected two classes or more to compare"),
        ("a: x\nb: x\n", "expected other prompts for class 'b' than for another class"),
        ("a: X\nb: x\n", "expected others for class 'b' than for 'a', got the same"),  # to the tokenizer
        ("a: x\na: y\nb: z\n", "Duplicate key: `a`"),
        ("yes: x\nno: y\n", "got True, which YAML makes of words such as yes"),
        (f"a: {'x ' * 80}\nb: y\n", "expected prompts of at most 77 tokens, which tokenizer takes, got 82"),
    ],
)
def test_refuses_conditions_in_one_line(classify, pipeline_folder, text, message):
    write_images(16, 16)
    answer = classify(pipeline_folder("sd1"), text)
    refused(answer, message)
    assert answer[2].startswith("error: --conditions: ")


@pytest.mark.parametrize(
    ("kind", "setting", "message"),
    [
        ("sd1", "image_size=15", "image_size: expected a size that [2, 2] divides, the stride of its autoencoder, got"),
        ("sd3", "image_size=18", "that [4, 4] divides, the stride of its autoencoder times the patch"),
        ("sd3", "image_size=68", "image_size: expected at most [64, 64], as far as the positions of its transformer"),
        ("sd1", "image_size=[16,16,16]", "image_size: expected 2 numbers of pixels"),
        ("sd1", "image_size=large", "image_size: expected 2 numbers of pixels"),
        ("sd1", "channels=2", "channels: expected 3, which the autoencoder takes, or 1, got 2"),
        ("sd1", "prompt_average=mean", "prompt_average: expected one of errors, embeddings, got mean"),
        ("sd1", "precision=half", "precision: expected one of float32, float16, bfloat16, got half"),
        ("sd1", "window=5", "window: expected None or two rising numbers"),
        ("sd1", "weights=none.safetensors", "weights: expected a file of weights, but none.safetensors does not exist"),
        ("sd1", "weights=model.pt", "weights: expected a file that ends in .safetensors, got model.pt"),
        ("sd1", "text_encoder=clip", "text_encoder: expected it with a bundle, as the folder of a pipeline says it"),
        ("sd1", "promt_average=errors", "no such setting; did you mean --set prompt_average?"),
    ],
)
def test_refuses_settings_in_one_line(classify, pipeline_folder, kind, setting, message):
    write_images(16, 16)
    refused(classify(pipeline_folder(kind), TEXT, "--set", setting), message)


@pytest.fixture
def broken(pipeline_folder, tmp_path):
    """A folder to break."""
    return shutil.copytree(pipeline_folder("sd1"), tmp_path / "copy")


def test_refuses_folders_in_one_line(classify, broken):
    write_images(16, 16)
    settings = broken / "unet" / "config.json"
    text = settings.read_text()
    settings.write_text(text.replace('"sample_size": 8', '"sample_size": null'))
    refused(classify(broken, TEXT), "which does not say it; give it, such as --set image_size=[512,512]")
    settings.write_text(text)
    shutil.rmtree(broken / "text_encoder")
    refused(classify(broken, TEXT), "error: generative-bundle: expected a folder text_encoder in")
    (broken / "configs").mkdir()
    refused(classify(broken, TEXT), "both in")
    (broken / "configs").rmdir()
    (broken / "model_index.json").unlink()
    refused(classify(broken, TEXT), "which holds model_index.json, got")
    refused(classify(Path("nowhere"), TEXT), "nothing is downloaded")


@pytest.mark.parametrize(("package", "named"), [("diffusers", "generative-bundle"), ("peft", "weights")])
def test_names_the_extra(classify, pipeline_folder, monkeypatch, package, named):
    write_images(16, 16)
    words = ()
    if package == "peft":
        pytest.importorskip("peft", reason="the extra diffusers is not installed: no package peft")
        words = ("--set", f"weights={trained(pipeline_folder('sd1'), lora=True)}")
    found = util.find_spec
    monkeypatch.setattr("monai_diffclf._optional.util.find_spec", lambda name: None if name == package else found(name))
    answer = classify(pipeline_folder("sd1"), TEXT, *words)
    refused(answer, f"needs the package {package}; install it with: pip install 'monai-diffclf[diffusers]'")
    assert answer[2].startswith(f"error: {named}: ")


def test_prompts_are_encoded_with_the_threads_of_every_process(pipeline_folder, tmp_path, monkeypatch):
    """Or the command's own process and those that it starts would compare other numbers."""
    (tmp_path / "conditions.yaml").write_text(TEXT)
    seen, opening = [], plan.open_generative_bundle

    def watched(*args, **settings):
        seen.append(torch.get_num_threads())
        return opening(*args, **settings)

    monkeypatch.setattr(plan, "open_generative_bundle", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        settings = ClassifierSettings(str(pipeline_folder("sd1")), conditions=str(tmp_path / "conditions.yaml"))
        settings.open()
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_an_autoencoder_that_would_overflow_stays_in_float32(pipeline_folder, broken, device):
    settings = broken / "vae" / "config.json"
    settings.write_text(settings.read_text().replace('"force_upcast": true', '"force_upcast": false'))
    dtypes = []
    for folder in (pipeline_folder("sd1"), broken):
        opened = open_diffusers_pipeline(folder, PROMPTS, dtype=torch.float16, device=device)
        assert next(opened.network.parameters()).dtype == torch.float16
        dtypes.append(next(opened.latent_space.autoencoder.parameters()).dtype)
    assert dtypes == [torch.float32, torch.float16]
