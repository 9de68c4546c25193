"""Fine-tuning a pipeline, whole and by LoRA: it learns, it is stored, and it comes back as it was."""

from __future__ import annotations

import json

import pytest
import torch
from monai.engines import SupervisedTrainer
from monai.inferers import SimpleInferer
from torch.utils.data import DataLoader

from monai_diffclf.engines import DenoisingPrepareBatch
from monai_diffclf.losses import DenoisingLoss
from monai_diffclf.networks import load_weights
from monai_diffclf.pipelines import add_lora, merge_lora, open_diffusers_pipeline, save_pipeline_weights
from tests.pipelines.tiny_pipelines import make_pipeline

PROMPTS = {"dark": "a dark picture", "bright": "a bright picture"}


def two_classes(count: int = 32) -> list[dict[str, object]]:
    """Pictures of one grey value each, with noise: dark or bright."""
    generator = torch.Generator().manual_seed(0)
    return [
        {"image": 0.1 * torch.randn(3, 16, 16, generator=generator) + (1.2 * (i % 2) - 0.6), "label": i % 2}
        for i in range(count)
    ]


def denoising_loss(opened, device: str) -> float:
    """The loss over fixed noise and levels."""
    batch = next(iter(DataLoader(two_classes(), batch_size=32)))
    prepare = DenoisingPrepareBatch(
        opened.scheduler,
        label_dropout=0.0,
        conditioning=opened.conditioning,
        latent_space=opened.latent_space,
        seed=5,
    )
    with torch.no_grad():
        noisy, targets, _, arguments = prepare(batch, device)
        return float(DenoisingLoss(opened.scheduler)(opened.network(noisy, **arguments), targets))


def train(opened, device: str, *, epochs: int, rate: float) -> None:
    """MONAI's trainer, with class captions as conditions."""
    parameters = [each for each in opened.network.parameters() if each.requires_grad]
    SupervisedTrainer(
        device=torch.device(device),
        max_epochs=epochs,
        train_data_loader=DataLoader(two_classes(), batch_size=16),
        network=opened.network,
        optimizer=torch.optim.AdamW(parameters, lr=rate),
        loss_function=DenoisingLoss(opened.scheduler),
        inferer=SimpleInferer(),
        prepare_batch=DenoisingPrepareBatch(
            opened.scheduler, conditioning=opened.conditioning, latent_space=opened.latent_space, seed=0
        ),
    ).run()
    opened.network.eval()


def errors(opened, device: str) -> torch.Tensor:
    images = torch.stack([each["image"] for each in two_classes(4)]).to(device)
    return opened.inferer(num_draws=3).compute_errors(images, opened.network).values.cpu()


@pytest.fixture
def lora(pipeline_folder, device):
    pytest.importorskip("peft", reason="the extra diffusers is not installed: no package peft")
    torch.manual_seed(0)
    opened = open_diffusers_pipeline(pipeline_folder("sd1"), PROMPTS, device=device)
    add_lora(opened.network, rank=4)
    return opened


def test_lora_starts_as_the_network_it_adapts(lora, pipeline_folder, device):
    plain = open_diffusers_pipeline(pipeline_folder("sd1"), PROMPTS, device=device)
    torch.testing.assert_close(errors(lora, device), errors(plain, device), rtol=1e-5, atol=1e-6)
    trained = {name for name, each in lora.network.named_parameters() if each.requires_grad}
    assert trained == {name for name, _ in lora.network.named_parameters() if "lora_" in name}
    assert 0 < sum(each.numel() for n, each in lora.network.named_parameters() if n in trained) < 5000


def test_lora_learns_is_stored_alone_and_comes_back(lora, pipeline_folder, tmp_path, device):
    from safetensors import safe_open

    before = denoising_loss(lora, device)
    train(lora, device, epochs=40, rate=1e-2)
    after = denoising_loss(lora, device)
    assert after < 0.97 * before, f"{before:.4f} before, {after:.4f} after"
    learned, file = errors(lora, device), tmp_path / "lora.safetensors"
    save_pipeline_weights(lora.network, file)
    with safe_open(file, "pt") as content:
        names = list(content.keys())
        assert names
        assert all(name.startswith("unet.") and "lora_" in name for name in names)
        assert json.loads(content.metadata()["lora_adapter_metadata"])["unet.r"] == 4
    again = open_diffusers_pipeline(pipeline_folder("sd1"), PROMPTS, weights=file, device=device)
    torch.testing.assert_close(errors(again, device), learned, rtol=1e-5, atol=1e-6)
    for opened in (lora, again):
        merge_lora(opened.network)
        assert not any("lora" in name for name, _ in opened.network.named_parameters())
        torch.testing.assert_close(errors(opened, device), learned, rtol=1e-3, atol=1e-4)
        assert torch.equal(errors(opened, device).argmin(1), learned.argmin(1)), "merged, the same classes"
    plain = open_diffusers_pipeline(pipeline_folder("sd1"), PROMPTS, device=device)
    assert not torch.allclose(errors(plain, device), learned, rtol=1e-2), "what was learned can be seen"


@pytest.mark.parametrize("kind", ["sd1", "sdxl", "sd3"])
@torch.no_grad()
def test_diffusers_loads_what_is_stored(kind, pipeline_folder, tmp_path):
    pytest.importorskip("peft", reason="the extra diffusers is not installed: no package peft")
    opened = open_diffusers_pipeline(pipeline_folder(kind), PROMPTS)
    add_lora(opened.network, rank=2, alpha=6.0)
    generator = torch.Generator().manual_seed(0)
    for name, weight in opened.network.named_parameters():
        if "lora_B" in name:
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    save_pipeline_weights(opened.network, tmp_path / "lora.safetensors")
    pipe = make_pipeline(kind)
    pipe.load_lora_weights(tmp_path, weight_name="lora.safetensors")
    theirs = pipe.transformer if kind == "sd3" else pipe.unet
    noisy, timesteps = torch.randn(2, 4, 8, 8, generator=generator), torch.tensor([100, 700])
    conditions = opened.conditioning(torch.tensor([0, 1]))
    mine = type(opened.network)(theirs, *([2] if kind != "sd3" else []))
    torch.testing.assert_close(
        opened.network(noisy, timesteps, **conditions), mine(noisy, timesteps, **conditions), rtol=1e-4, atol=1e-5
    )


def test_whole_networks_are_trained_stored_and_come_back(pipeline_folder, tmp_path, device):
    opened = open_diffusers_pipeline(pipeline_folder("sd2"), PROMPTS, device=device)
    before = denoising_loss(opened, device)
    train(opened, device, epochs=10, rate=3e-3)
    assert denoising_loss(opened, device) < 0.97 * before
    learned, file = errors(opened, device), tmp_path / "unet.safetensors"
    save_pipeline_weights(opened.network, file)
    again = open_diffusers_pipeline(pipeline_folder("sd2"), PROMPTS, weights=file, device=device)
    assert torch.equal(errors(again, device), learned)
    other = open_diffusers_pipeline(pipeline_folder("sd2"), PROMPTS, device=device)
    load_weights(other.network.model, file)  # names are those of the pipeline's own folder
    assert torch.equal(errors(other, device), learned)


def test_weights_of_another_network_are_refused(pipeline_folder, tmp_path):
    from safetensors.torch import save_file

    opened = open_diffusers_pipeline(pipeline_folder("sd1"), PROMPTS)
    wide, xl = tmp_path / "wide.safetensors", tmp_path / "xl.safetensors"
    tensors = opened.network.model.state_dict()
    save_file({**tensors, "conv_in.weight": torch.ones(8, 5, 3, 3)}, wide)
    message = r"the first layer that differs is conv_in.weight: \[8, 4, 3, 3\] here, \[8, 5, 3, 3\] in the file"
    with pytest.raises(ValueError, match=message):
        open_diffusers_pipeline(pipeline_folder("sd1"), PROMPTS, weights=wide)
    save_pipeline_weights(open_diffusers_pipeline(pipeline_folder("sdxl"), PROMPTS).network, xl)
    with pytest.raises(ValueError, match=r"the first layer that differs is .*attn2.to_k.weight: \[16, 8\] here"):
        open_diffusers_pipeline(pipeline_folder("sd1"), PROMPTS, weights=xl)
    with pytest.raises(ValueError, match="weights: expected a file that ends in .safetensors, got model.pt"):
        open_diffusers_pipeline(pipeline_folder("sd1"), PROMPTS, weights="model.pt")
    with pytest.raises(ValueError, match="path: expected a file that ends in .safetensors"):
        save_pipeline_weights(opened.network, tmp_path / "model.pt")


def test_lora_of_another_network_is_refused(lora, pipeline_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    file = tmp_path / "lora.safetensors"
    save_pipeline_weights(lora.network, file)
    for kind, message in (
        ("sd3", "weights: expected LoRA of the transformer alone in .*, got unet."),
        ("sdxl", "weights: expected LoRA of this unet in .*, got an error: .*size mismatch"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            open_diffusers_pipeline(pipeline_folder(kind), PROMPTS, weights=file)
        assert "\n" not in str(caught.value)
    tensors = {name.replace("unet.", "text_encoder."): value for name, value in load_file(file).items()}
    save_file(tensors, file)
    with pytest.raises(ValueError, match="got text_encoder.*; text encoders are not adapted"):
        open_diffusers_pipeline(pipeline_folder("sd1"), PROMPTS, weights=file)


def test_refuses_what_lora_cannot_do(lora, pipeline_folder):
    with pytest.raises(ValueError, match="network: expected one without LoRA"):
        add_lora(lora.network)
    plain = open_diffusers_pipeline(pipeline_folder("sd1"), PROMPTS).network
    with pytest.raises(ValueError, match="network: expected one with LoRA, got one without"):
        merge_lora(plain)
    for settings, message in (
        ({"rank": 0}, "rank: expected a positive integer, got 0"),
        ({"alpha": -1.0}, "alpha: expected None or a positive number, got -1.0"),
        ({"layers": ["to_q", "nowhere"]}, r"layers: expected ends of names of the network's layers, got \['nowhere'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            add_lora(plain, **settings)
