"""The benchmark of explanations: its methods find evidence whose place is known, and a small run reports everything."""

from __future__ import annotations

import json

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from benchmarks.explanations import quality
from benchmarks.explanations.methods import MapMethod, grad_cam, make_resnet, occlusion, smooth_grad
from tests.tiny_unet import tiny_unet


class LooksAtOnePlace(torch.nn.Module):
    """Class 1 where the square [8:16, 20:28] is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.layer4 = torch.nn.Conv2d(1, 1, 1, bias=False)
        torch.nn.init.ones_(self.layer4.weight)
        window = torch.zeros(1, 1, 32, 32)
        window[..., 8:16, 20:28] = 1
        self.register_buffer("window", window)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (torch.relu(self.layer4(x)) * self.window).flatten(1).sum(1) / 64
        return torch.stack([1 - score, score], 1) * 4


def bright_square() -> torch.Tensor:
    images = torch.full((3, 1, 32, 32), 0.05)
    images[..., 8:16, 20:28] = 1
    return images + 0.01 * torch.rand(images.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize(
    ("explain", "variant"),
    [(grad_cam, {}), (occlusion, {}), (occlusion, {"mode": "mean_img", "mask_size": 5}), (smooth_grad, {})],
    ids=["grad_cam", "occlusion", "occlusion_mean", "smooth_grad"],
)
def test_methods_find_the_evidence(explain, variant):
    maps = explain(LooksAtOnePlace().eval(), bright_square(), 1, **variant)
    assert maps.shape == (3, 32, 32)
    assert type(maps) is torch.Tensor
    for each in maps:
        row, column = divmod(int(each.argmax()), 32)
        assert 8 <= row < 16
        assert 20 <= column < 28
    inside, outside = float(maps[:, 8:16, 20:28].mean()), float(maps[:, 20:30, 2:12].mean())
    assert inside > 5 * abs(outside), "larger is more evidence, and none is about 0"


def test_grad_cam_of_an_image_does_not_depend_on_the_others():
    network, images = make_resnet().eval(), bright_square()
    alone = grad_cam(network, images[:1], 1)
    torch.testing.assert_close(grad_cam(network, images, 1)[:1], alone, rtol=1e-3, atol=1e-6)


def test_seed_of_smooth_grad_leaves_global_random_state_alone():
    network = LooksAtOnePlace().eval()
    state = torch.get_rng_state()
    first, again, other = (smooth_grad(network, bright_square()[:1], 1, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert first.shape == other.shape


def test_the_best_variant_is_the_one_that_finds_the_mask():
    masks = torch.zeros(2, 8, 8)
    masks[:, 2, 2] = masks[:, 6, 4] = 1

    def explain(network, images, label, *, seed=0, sign=1):
        return sign * masks

    method = MapMethod("toy", explain, torch.nn.Identity(), [{"sign": -1}, {"sign": 1}], (4, 0))
    assert method.best_variant(torch.zeros(2, 1, 8, 8), masks, 1) == {"sign": 1, "sigma": 0}


def test_lesions_only():
    data = quality.phantoms(5, 1, lesions_only=True)
    assert data["labels"].tolist() == [1] * 5
    assert data["images"].min() >= -1
    assert data["masks"].flatten(1).any(1).all()
    everyone = quality.phantoms(12, 1)
    first = int((everyone["labels"] == 1).nonzero()[0])
    assert torch.equal(everyone["images"][first], data["images"][0])


def test_time_of_maps_is_a_ratio(device):
    scheduler = DDPMScheduler(100, schedule="cosine", prediction_type="epsilon")
    images = torch.rand(1, 1, 8, 8, device=device)
    timed = quality.time_ratio(tiny_unet().to(device), scheduler, images, draws=2, repeats=3)
    assert len(timed["ratio_of_each_repeat"]) == 3
    assert timed["ratio"] > 0


def test_refuses_no_images(capsys):
    with pytest.raises(SystemExit):
        quality.main(["--images", "0"])
    assert "--images: expected at least 1, got 0" in capsys.readouterr().err


@pytest.mark.slow
def test_small_run(tmp_path):
    torch.save(make_resnet().state_dict(), tmp_path / "resnet.pt")
    small = {"images": 10, "draws": 5, "few": 2, "few-draws": 3, "steps": 2, "tune-images": 2, "counterfactuals": 2}
    output, picture = tmp_path / "new" / "explanations.json", tmp_path / "new" / "explanations.png"
    quality.main(
        [
            *(f"--{name}={value}" for name, value in small.items()),
            *(f"--resnet={tmp_path / 'resnet.pt'}", f"--output={output}", f"--picture={picture}"),
        ]
    )
    report = json.loads(output.read_text())
    assert set(report["classifiers"]) == {"diffusion", "resnet18"}
    assert set(report["maps"]) == {"error map", "Grad-CAM++", "occlusion", "SmoothGrad"}
    for name, row in report["maps"].items():
        wanted = {"pointing_game", "average_precision", "iou_best_threshold", "correlation_with_random_weights"}
        wanted |= {f"{what}_{who}" for what in ("deletion", "insertion") for who in ("diffusion", "resnet18")}
        assert wanted <= set(row), name
        assert 0 <= row["average_precision"]["low"] <= row["average_precision"]["high"] <= 1
    assert set(report["gain_of_error_map"]) == {"Grad-CAM++", "occlusion", "SmoothGrad"}
    for way in ("sampled", "inverted", "inverted, masked"):
        assert {"flip_rate", "flip_rate_baseline", "energy_inside", "drift", "ssim", "l1"} <= set(
            report["counterfactuals"][way]
        )
    assert picture.stat().st_size > 10_000
