"""Maps of a class, by our classifier and by MONAI's methods on a ResNet-18: all as [n, H, W], larger for more evidence.

Each of MONAI's methods has some settings; which of them are compared is decided on phantoms of another seed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.networks.nets import resnet18
from monai.networks.schedulers import Scheduler
from monai.utils import convert_to_tensor
from monai.visualize import GradCAMpp, OcclusionSensitivity, SmoothGrad

from monai_diffclf.explain import decision_map, map_average_precision, smooth_map
from monai_diffclf.inferers import DiffusionClassifierInferer

Explain = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class MapMethod:
    """A way to explain a class.

    Args:
        name: what tables call it.
        explain: called as explain(network, images, label, seed=..., **variant); gives maps [n, H, W].
        network: the network it explains.
        variants: settings to choose from; the first is the method's default.
        sigmas: smoothings to choose from, in pixels, 0 for none.
        random: whether maps depend on the seed.
    """

    name: str
    explain: Explain
    network: torch.nn.Module
    variants: Sequence[dict[str, Any]] = ({},)
    sigmas: Sequence[float] = (0,)
    random: bool = False

    def maps(
        self, images: torch.Tensor, label: int, *, seed: int = 0, network: Any = None, sigma: float = 0, **variant: Any
    ) -> torch.Tensor:
        """Maps of a label [n, H, W]; of another network where one is given."""
        maps = self.explain(network or self.network, images, label, seed=seed, **variant).detach().cpu()
        return smooth_map(maps, sigma) if sigma else maps

    def best_variant(self, images: torch.Tensor, masks: torch.Tensor, label: int) -> dict[str, Any]:
        """The settings with the best average precision on other images."""
        if len(self.variants) == len(self.sigmas) == 1:
            return {**self.variants[0], "sigma": self.sigmas[0]}
        scores = []
        for variant in self.variants:
            maps = self.maps(images, label, **variant)
            for sigma in self.sigmas:
                smoothed = smooth_map(maps, sigma) if sigma else maps
                scores.append((float(map_average_precision(smoothed, masks).mean()), {**variant, "sigma": sigma}))
        return max(scores, key=lambda score: score[0])[1]


def make_resnet(stride: int = 2) -> torch.nn.Module:
    """The ResNet-18 that ``benchmarks/explanations/phantom_resnet18.json`` trains."""
    return resnet18(
        spatial_dims=2, n_input_channels=1, num_classes=2, conv1_t_size=3, conv1_t_stride=stride, no_max_pool=True
    )


def error_map(scheduler: Scheduler, **settings: Any) -> Explain:
    """Our maps as an inferer gives them by default: how much better the label explains each pixel than the rival."""

    def explain(network: Any, images: torch.Tensor, label: int, *, seed: int = 0) -> torch.Tensor:
        inferer = DiffusionClassifierInferer(scheduler, 2, seed=seed, rule="mean", **settings)
        labels = torch.full((len(images),), label, device=images.device)
        return decision_map(inferer.error_maps(images, network), labels)

    return explain


def grad_cam(network: Any, images: torch.Tensor, label: int, *, seed: int = 0, layer: str = "layer4") -> torch.Tensor:
    """MONAI's Grad-CAM++, one image at a time: of a batch, its scores are broadcast over the last axis."""
    # MONAI's own postprocessing maps the highest value to 0.
    cam = GradCAMpp(nn_module=network, target_layers=layer, postprocessing=lambda maps: maps)
    maps = torch.cat([cam(x=image[None], class_idx=label)[:, 0].detach() for image in images])
    return torch.nan_to_num(maps)


def occlusion(
    network: Any, images: torch.Tensor, label: int, *, seed: int = 0, mask_size: int = 8, mode: str = "gaussian"
) -> torch.Tensor:
    """MONAI's occlusion sensitivity: how much the label's probability falls where the image is covered."""
    method = OcclusionSensitivity(network, mask_size=mask_size, n_batch=256, mode=mode, verbose=False)
    with torch.no_grad(), warnings.catch_warnings():
        # MONAI's sliding windows index in a way that PyTorch warns of.
        warnings.simplefilter("ignore", UserWarning)
        covered = torch.stack([method(image[None])[0][0, label] for image in images])
        whole = torch.softmax(network(images), 1)[:, label]
    maps = whole.reshape(-1, 1, 1) - covered
    plain: torch.Tensor = convert_to_tensor(maps)
    return plain


def smooth_grad(network: Any, images: torch.Tensor, label: int, *, seed: int = 0, samples: int = 25) -> torch.Tensor:
    """MONAI's SmoothGrad: size of the gradient under noise."""
    method = SmoothGrad(network, n_samples=samples, verbose=False)
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        torch.manual_seed(seed)
        maps = torch.cat([method(image[None], index=label).abs().mean(1) for image in images])
    return maps.detach()


def make_methods(
    diffusion: torch.nn.Module, scheduler: Scheduler, resnet: torch.nn.Module | None, **settings: Any
) -> list[MapMethod]:
    """Our maps first, then those of the baseline where there is one."""
    methods = [MapMethod("error map", error_map(scheduler, **settings), diffusion, random=True)]
    if resnet is None:
        return methods
    layers = [{"layer": f"layer{n}"} for n in (4, 3, 2, 1)]
    boxes = [{"mask_size": size, "mode": mode} for size in (8, 5, 12) for mode in ("gaussian", "mean_img")]
    sigmas = (0, 1, 2)
    return [
        *methods,
        MapMethod("Grad-CAM++", grad_cam, resnet, layers, sigmas),
        MapMethod("occlusion", occlusion, resnet, boxes, sigmas),
        MapMethod("SmoothGrad", smooth_grad, resnet, sigmas=sigmas, random=True),
    ]
