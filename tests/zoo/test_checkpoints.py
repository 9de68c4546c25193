"""Which checkpoints and factors are found in a configuration, in the forms that bundles write them in."""

from __future__ import annotations

import json
from importlib import util
from pathlib import Path

import pytest
import torch
from monai.networks.nets import AutoencoderKL

from monai_diffclf.networks import import_generative
from monai_diffclf.zoo.checkpoints import Checkpoint, find_checkpoint, find_scaling, load_checkpoint
from monai_diffclf.zoo.config import read_config
from tests.zoo.tiny_bundles import randomised

NETWORK = {"_target_": "Net", "size": 1}


def config(folder: Path, content: dict):
    (folder / "configs").mkdir(exist_ok=True)
    (folder / "configs" / "inference.json").write_text(json.dumps({"bundle_root": ".", **content}))
    return read_config(folder)


@pytest.mark.parametrize(
    ("content", "file", "key"),
    [
        ({"load": "$@net.load_state_dict(torch.load(@bundle_root + '/models/a.pt'))"}, "models/a.pt", None),
        ({"run": ["$@net.load_state_dict(torch.load('/w/a.pt', weights_only=False)['unet'])"]}, "/w/a.pt", "unet"),
        (
            {
                "path": "$@dir + '/a.pt'",
                "dir": "$@bundle_root + '/models'",
                "device": "cpu",
                "moved": "$@net.to(@device)",
                "content": "$torch.load(@path)",
                "load": "$@moved.load_state_dict(@content['net'], strict=True)",
            },
            "models/a.pt",
            "net",
        ),
        (
            {
                "load_function": "$@net.load_old_state_dict if bool(@old) else @net.load_state_dict",
                "old": 1,
                "load": "$@load_function(torch.load('models/a.pt'))",
            },
            "models/a.pt",
            None,
        ),
        (
            {
                "handler": {
                    "_target_": "CheckpointLoader",
                    "load_path": "$@bundle_root + '/models/a.pt'",
                    "load_dict": {"model": "@net"},
                }
            },
            "models/a.pt",
            "model",
        ),
    ],
)
def test_checkpoint_of_a_network(tmp_path, content, file, key):
    other = {"load_other": "$@other.load_state_dict(torch.load('/w/other.pt'))", "other": NETWORK}
    found = find_checkpoint(config(tmp_path, {**other, "net": NETWORK, **content}), "net")
    assert found == Checkpoint(tmp_path / file, key)


def test_none_is_found_where_none_is_loaded(tmp_path):
    content = {
        "net": NETWORK,
        "control": NETWORK,
        "copy": "$monai.networks.copy_model_state(@control, @net.state_dict())",
    }
    assert find_checkpoint(config(tmp_path, content), "net") is None


def test_scaling_factors(tmp_path):
    assert find_scaling(config(tmp_path, {"scale_factor": 0.3})) == 0.3
    assert find_scaling(config(tmp_path, {"scaling_factor": "$1 / @std", "std": 4})) == 0.25
    torch.save({"scale_factor": torch.tensor(0.5)}, tmp_path / "a.pt")
    text = f"$torch.load('{tmp_path}/a.pt')['scale_factor'].to('cpu')"
    assert find_scaling(config(tmp_path, {"scale_factor": text})) == 0.5
    assert find_scaling(config(tmp_path, {"sampler": {"_target_": "monai.inferers.Inferer"}})) is None
    with pytest.raises(ValueError, match="scale_factor: expected a number"):
        find_scaling(config(tmp_path, {"scale_factor": [1]}))


def test_a_common_file_is_read_first(tmp_path):
    (tmp_path / "configs").mkdir(exist_ok=True)
    (tmp_path / "configs" / "common.json").write_text('{"a": 1, "b": 2}')
    (tmp_path / "configs" / "infer.json").write_text('{"b": 3}')
    found = read_config(tmp_path)
    assert dict(found.content) == {"a": 1, "b": 3} and found.path.name == "infer.json"


def test_nothing_but_what_is_needed_is_evaluated(tmp_path):
    content = {"imports": ["$import no_such_package"], "bad": "$1 / 0", "good": "$@one + 1", "one": 1}
    found = config(tmp_path, content)
    assert found.evaluate("@good") == 2
    with pytest.raises(ValueError, match="cannot be evaluated: division by zero"):
        found.evaluate("@bad")


@pytest.mark.skipif(util.find_spec("generative") is None, reason="the extra generative is not installed")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_attention_of_an_old_autoencoder_stays_without_its_projection(tmp_path):
    """monai-generative holds a projection after the attention and never applies it (MONAI issue 7991)."""
    import_generative()
    from generative.networks.nets import AutoencoderKL as Archived

    settings = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "latent_channels": 2, "num_res_blocks": 1}
    settings |= {"norm_num_groups": 4, "attention_levels": (False, True)}
    old = randomised(Archived(**settings, num_channels=(4, 8)), 0)
    torch.save(old.state_dict(), tmp_path / "a.pt")
    images = torch.rand(1, 1, 16, 16)
    for include_fc in (True, False):
        new = AutoencoderKL(**settings, channels=(4, 8), include_fc=include_fc).eval()
        load_checkpoint(new, Checkpoint(tmp_path / "a.pt", None))
        with torch.no_grad():
            torch.testing.assert_close(new.encode(images)[0], old.encode(images)[0], rtol=1e-4, atol=1e-5)


def test_refuses_other_weights(tmp_path):
    torch.save({"weight": torch.zeros(2, 1), "bias": torch.ones(2)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a.pt does not fit Linear as the configuration builds it"):
        load_checkpoint(torch.nn.Linear(1, 1), Checkpoint(tmp_path / "a.pt", None))
    torch.save([1], tmp_path / "b.pt")
    with pytest.raises(ValueError, match=r"expected names with tensors in .*b.pt under 'unet'"):
        load_checkpoint(torch.nn.Linear(1, 1), Checkpoint(tmp_path / "b.pt", "unet"))
