"""Weights of monai-generative in MONAI's network: the same predictions, or a refusal that says what to change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.networks.nets import DiffusionModelUNet

from monai_diffclf.networks.checkpoints import load_generative_checkpoint
from monai_diffclf.networks.nets import WaveletDiffusionUNet

FILE = Path(__file__).parent / "fixtures" / "generative_checkpoint.pt"
INCLUDE_FC = {"class_labels": False, "crossattn": True}


@pytest.fixture(scope="module")
def saved() -> dict:
    """What monai-generative 0.2.3 computed, see fixtures/make_generative_checkpoint.py."""
    return torch.load(FILE, weights_only=True)


def build(entry: dict, name: str, **changes) -> DiffusionModelUNet:
    return DiffusionModelUNet(**{**entry["settings"], "include_fc": INCLUDE_FC[name], **changes}).eval()


@pytest.mark.parametrize("name", INCLUDE_FC)
def test_predictions_are_those_of_monai_generative(saved, name, device):
    entry = saved[name]
    network = build(entry, name)
    load_generative_checkpoint(network, entry["state_dict"])
    network.to(device)
    with torch.no_grad():
        prediction = network(**{key: value.to(device) for key, value in entry["inputs"].items()}).cpu()
    torch.testing.assert_close(prediction, entry["prediction"], rtol=1e-4, atol=1e-5)
    assert prediction.std() > 0.05, "the fixture must not be trivial"


@pytest.mark.parametrize("name", INCLUDE_FC)
def test_same_weights_as_monai_loads_them(saved, name):
    ours, monais = build(saved[name], name), build(saved[name], name)
    load_generative_checkpoint(ours, saved[name]["state_dict"])
    monais.load_old_state_dict(dict(saved[name]["state_dict"]))
    for (key, a), b in zip(ours.state_dict().items(), monais.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def test_the_given_dict_is_left_alone(saved):
    old = dict(saved["class_labels"]["state_dict"])
    load_generative_checkpoint(build(saved["class_labels"], "class_labels"), old)
    assert old.keys() == saved["class_labels"]["state_dict"].keys()


@pytest.mark.parametrize("kind", [str, Path])
def test_from_a_file(saved, tmp_path, kind):
    entry = saved["class_labels"]
    torch.save(entry["state_dict"], tmp_path / "old.pt")
    network, other = build(entry, "class_labels"), build(entry, "class_labels")
    load_generative_checkpoint(network, kind(tmp_path / "old.pt"))
    load_generative_checkpoint(other, entry["state_dict"])
    assert torch.equal(network.out[2].conv.weight, other.out[2].conv.weight)


def test_inside_a_wavelet_network(saved):
    entry = saved["class_labels"]
    settings = {k: v for k, v in entry["settings"].items() if k not in ("spatial_dims", "in_channels", "out_channels")}
    network = WaveletDiffusionUNet(2, 1, include_fc=False, **settings)
    old = dict(entry["state_dict"])
    # A network of wavelet coefficients has four times the channels at both ends.
    old["conv_in.conv.weight"] = old["conv_in.conv.weight"].repeat(1, 4, 1, 1)
    old["out.2.conv.weight"] = old["out.2.conv.weight"].repeat(4, 1, 1, 1)
    old["out.2.conv.bias"] = old["out.2.conv.bias"].repeat(4)
    load_generative_checkpoint(network.unet, old)
    assert torch.equal(network.unet.conv_in.conv.weight, old["conv_in.conv.weight"])
    with pytest.raises(TypeError, match="got WaveletDiffusionUNet; of a WaveletDiffusionUNet pass its .unet"):
        load_generative_checkpoint(network, old)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("class_labels", {"include_fc": True}, "network: expected include_fc=False, as monai-generative's self-attent"),
        ("crossattn", {"include_fc": False}, "network: expected include_fc=True, as monai-generative's cross-attent"),
        ("class_labels", {"use_combined_linear": True}, "network: expected use_combined_linear=False"),
        ("class_labels", {"num_class_embeds": None}, r"the checkpoint also holds \['class_embedding.weight'\], 1 in"),
        ("class_labels", {"num_class_embeds": 5}, r"the checkpoint has other shapes of \['class_embedding.weight'\]"),
        ("class_labels", {"num_res_blocks": 2}, r"the checkpoint lacks \['down_blocks.0.resnets.1"),
        ("class_labels", {"attention_levels": (True, True)}, r"the checkpoint lacks \['down_blocks.0.attentions.0"),
        ("class_labels", {"attention_levels": (False, False)}, r"the checkpoint also holds \['down_blocks.1.atten"),
        (
            "crossattn",
            {"with_conditioning": False, "cross_attention_dim": None, "include_fc": False},
            r"the checkpoint lacks .* compare channels",
        ),
    ],
)
def test_other_settings_are_refused(saved, name, changes, message):
    network = build(saved[name], name, **changes)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_generative_checkpoint(network, saved[name]["state_dict"])
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items()), "left as it was"


def test_new_names_are_refused(saved):
    network = build(saved["class_labels"], "class_labels")
    with pytest.raises(ValueError, match=r"got those of MONAI itself; call network.load_state_dict"):
        load_generative_checkpoint(network, network.state_dict())


def test_what_is_no_state_dict_is_refused(saved):
    with pytest.raises(TypeError, match="state_dict_or_path: expected a state dict, got list"):
        load_generative_checkpoint(build(saved["crossattn"], "crossattn"), [1])
