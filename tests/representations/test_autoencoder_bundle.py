"""A bundle on the latents of an autoencoder, from images to decoded counterfactuals by the ordinary commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import AutoencoderKL
from PIL import Image

from monai_diffclf.bundle import open_bundle
from monai_diffclf.commands import main
from monai_diffclf.networks import AutoencoderSpace
from monai_diffclf.networks.nets import TinyAutoencoder
from monai_diffclf.representations import load_space, make_encoder, prepare_space
from tests.bundles.workflows import bundle_workflow, run

SIZE = 32


def write_autoencoder(folder: Path, seed: int = 0) -> Path:
    """The two files of a tiny autoencoder with random weights."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    made = TinyAutoencoder(4, features=8)
    for part in ("encoder", "decoder"):
        torch.save(getattr(made, part).state_dict(), folder / f"tiny_{part}.pth")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey pictures of two classes, dark and bright below."""
    root = tmp_path_factory.mktemp("images")
    for split, count in (("train", 24), ("val", 8), ("test", 8)):
        for label, name in enumerate(("dark", "bright")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for n in range(count):
                pixels = np.random.default_rng([label, n, count]).normal(100, 20, (SIZE, SIZE))
                pixels[SIZE // 2 :] += 60 * label
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{split}_{name}_{n}.png")
    return root


def ended(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main([*map(str, words), "--json", "--no-progress"])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_from_images_to_decoded_counterfactuals(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    autoencoder, bundle = write_autoencoder(tmp_path / "autoencoder"), tmp_path / "mine"
    words = ["--data", images, "--encoder", f"autoencoder:{autoencoder}", "--image-size", SIZE, "--no-floor"]
    code, made = ended(capsys, "new-bundle", bundle, *words)
    assert code == 0, made
    assert made["recipe"]["settings"]["grid"] == [4, 4] and made["recipe"]["settings"]["num_components"] == 4
    assert made["encoding_seconds"] > 0

    words = ["--epochs", 2, "--device", "cpu", "--set", "views=1", "--set", "val_draws=1"]
    code, trained = ended(capsys, "train", bundle, *words)
    assert code == 0, trained
    run_folder = bundle / "runs" / "seed_0"
    space = load_space(run_folder / "representation.pt")
    assert isinstance(space, AutoencoderSpace) and (space.channels, space.stride) == (1, 8)
    opened = open_bundle(bundle, "train.json", device="cpu", progress=False)
    pixels = torch.stack([torch.as_tensor(opened.read(str(path))[0]) for path in sorted(images.glob("train/*/*.png"))])
    assert float(space.encode(pixels).std(correction=0)) == pytest.approx(1, rel=1e-4)

    code, measured = ended(capsys, "evaluate", bundle, "--draws", 3, "--device", "cpu")
    assert code == 0 and 0 <= measured["test"]["diffusion_mean"]["auc"]["value"] <= 1

    some, out = tmp_path / "some", tmp_path / "out"
    some.mkdir()
    for path in sorted(images.glob("test/*/*_0.png")):
        (some / path.name).write_bytes(path.read_bytes())
    words = ["--bundle", bundle, "--draws", 3, "--device", "cpu", "--maps", "npy", "--output", out]
    code, classified = ended(capsys, "classify", some, *words)
    assert code == 0 and classified["classified"] == 2
    for path in (out / "maps").glob("*.npy"):
        assert np.load(path).shape[-2:] == (SIZE, SIZE), "maps are in pixels"

    settings = {"device": torch.device("cpu"), "progress": False, "num_draws": 3, "calibrated": False}
    settings |= {"dataset_dir": str(some), "output_dir": str(tmp_path / "pages"), "counterfactuals#num_steps": 2}
    run(bundle_workflow(bundle, "infer", "inference.json", "counterfactuals.json", **settings))
    page = (tmp_path / "pages" / "cases.html").read_text(encoding="utf-8")
    without = {**settings, "output_dir": str(tmp_path / "plain")}
    del without["counterfactuals#num_steps"]
    run(bundle_workflow(bundle, "infer", "inference.json", **without))
    plain = (tmp_path / "plain" / "cases.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") > plain.count("data:image/png"), "decoded counterfactuals are in the page"


def plain_images(count: int = 6, channels: int = 1) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    return [{"image": torch.rand(channels, 16, 16, generator=generator) * 2 - 1, "label": 0} for _ in range(count)]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_space_is_made_once_and_is_that_of_the_autoencoder(tmp_path: Path, channels: int) -> None:
    folder = write_autoencoder(tmp_path / "autoencoder")
    encoder = make_encoder(f"autoencoder:{folder}", image_size=16)
    assert (encoder.stride, encoder.out_channels, encoder.grid((16, 24))) == (8, 4, (2, 3))
    data, path = plain_images(channels=channels), tmp_path / "run" / "representation.pt"
    made = prepare_space(path, encoder, data, num_components=4, grid=[2, 2], progress=False)  # type: ignore[arg-type]
    before = path.read_bytes()
    again = prepare_space(path, encoder, data, num_components=4, grid=[2, 2], progress=False)  # type: ignore[arg-type]
    assert path.read_bytes() == before and again.version == made.version == load_space(path).version
    batch = torch.stack([item["image"] for item in data])
    assert float(made.encode(batch).std(correction=0)) == pytest.approx(1, rel=1e-4)
    assert isinstance(made, AutoencoderSpace) and made.decode(made.encode(batch)).shape == batch.shape


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_components": 8}, "num_components: expected 4, the channels of the latents"),
        ({"whitening": 0.5}, "whitening: expected none for an autoencoder"),
        ({"global_token": True}, "global_token: expected none for an autoencoder"),
        ({"amp_dtype": "bfloat16"}, "amp_dtype: expected none for an autoencoder"),
        ({"adaptation": {"epochs": 1}}, "adaptation: expected none for an autoencoder"),
        ({"grid": [4, 4]}, r"grid: expected \[2, 2\], what autoencoder:TinyAutoencoder makes of images"),
    ],
)
def test_what_an_autoencoder_does_not_take(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    encoder = make_encoder(f"autoencoder:{write_autoencoder(tmp_path / 'autoencoder')}", image_size=16)
    with pytest.raises(ValueError, match=message):
        prepare_space(tmp_path / "r.pt", encoder, plain_images(), progress=False, **{"num_components": 4, **settings})  # type: ignore[arg-type]
    assert not (tmp_path / "r.pt").exists()


def test_another_autoencoder_in_the_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_autoencoder(tmp_path / "autoencoder")
    encoder = make_encoder(f"autoencoder:{folder}", image_size=16)
    prepare_space(tmp_path / "r.pt", encoder, plain_images(), num_components=4, progress=False)  # type: ignore[arg-type]
    folder.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match="folder: expected a local folder"):
        load_space(tmp_path / "r.pt")
    write_autoencoder(folder, seed=1)
    with pytest.raises(ValueError, match="encoder: expected the autoencoder that .* was made with"):
        load_space(tmp_path / "r.pt")
    words = ["--classes", "a,b", "--channels", 1, "--encoder", f"autoencoder:{folder}", "--adapt"]
    code, refused = ended(capsys, "new-bundle", tmp_path / "mine", *words)
    assert code == 2 and "--adapt: works with the features of an encoder" in refused["error"]
    with pytest.raises(ValueError, match="layers: expected none"):
        make_encoder(f"autoencoder:{folder}", layers=["features"])


MONAI = {
    "_target_": "monai.networks.nets.AutoencoderKL",
    **{"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "channels": [8, 8], "latent_channels": 3},
    **{"num_res_blocks": 1, "norm_num_groups": 4, "attention_levels": [False, False]},
    **{"with_encoder_nonlocal_attn": False, "with_decoder_nonlocal_attn": False},
}


def write_monai(folder: Path, **changes: Any) -> Path:
    """A small `AutoencoderKL` with random weights, as `load_autoencoder` reads it."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    made = AutoencoderKL(**{name: value for name, value in MONAI.items() if name != "_target_"})
    torch.save(made.state_dict(), folder / "autoencoder.pt")
    (folder / "autoencoder.json").write_text(json.dumps({**MONAI, **changes}))
    return folder


def test_an_autoencoder_of_monai(tmp_path: Path) -> None:
    folder = write_monai(tmp_path / "kl")
    encoder = make_encoder(f"autoencoder:{folder}", image_size=16)
    assert (encoder.stride, encoder.out_channels, encoder.in_channels) == (2, 3, 1)
    made = prepare_space(tmp_path / "r.pt", encoder, plain_images(), num_components=3, grid=[8, 8], progress=False)  # type: ignore[arg-type]
    batch = torch.stack([item["image"] for item in plain_images()])
    codes = encoder.network.autoencoder.encode(batch)[0]  # type: ignore[operator, union-attr]
    assert isinstance(made, AutoencoderSpace)
    torch.testing.assert_close(made.encode(batch), codes * made.scaling_factor, rtol=1e-4, atol=1e-5)
    assert made.decode(codes).shape == batch.shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_target_": "os.system"}, "folder: expected as _target_ one of"),
        (
            {"latent_channels": 5},
            "folder: expected a AutoencoderKL by the settings of .* got an error: .*size mismatch",
        ),
        ({"channels": "$__import__('os').getcwd()"}, "folder: expected a AutoencoderKL by the settings of"),
        ({"no_such": 1}, "got an error: .*no_such"),
    ],
)
def test_other_autoencoders_of_monai_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_encoder(f"autoencoder:{write_monai(tmp_path / 'kl', **changes)}")
    (tmp_path / "kl" / "autoencoder.json").write_text(json.dumps(MONAI))
    (tmp_path / "kl" / "autoencoder.pt").unlink()
    with pytest.raises(ValueError, match=r"folder: expected autoencoder.pt or autoencoder.safetensors"):
        make_encoder(f"autoencoder:{tmp_path / 'kl'}")
