"""The map of the predicted class, and files of it that MONAI's SaveImaged writes."""

from __future__ import annotations

import warnings

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, MetaTensor
from monai.networks.schedulers import DDPMScheduler
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    Resized,
    ResizeWithPadOrCropd,
    SaveImaged,
    ScaleIntensityd,
    Spacingd,
)
from PIL import Image

from monai_diffclf.engines import DiffusionClassifierEvaluator
from monai_diffclf.explain import decision_map, overlay
from monai_diffclf.image_io import ReadImaged, ReadVolumed
from monai_diffclf.image_io.map_file import map_to_image_size
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.transforms import ErrorMap, ErrorMapD, ErrorMapd, ErrorMapDict
from tests.volume_fixtures import phantom, save_nifti

MAPS = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))


class Denoiser(torch.nn.Module):
    """Takes the images of class k for constant, k / 2."""

    def forward(self, x, timesteps, context=None, class_labels=None):
        return class_labels.reshape(-1, *[1] * (x.ndim - 1)) / 2 + 0.01 * x


def evaluate(items, preprocessing, postprocessing, device) -> list[dict]:
    outputs: list[dict] = []
    evaluator = DiffusionClassifierEvaluator(
        torch.device(device),
        DataLoader(Dataset(items, preprocessing), batch_size=2),
        Denoiser().eval(),
        # Where a map lies is seen best if it is not smooth.
        inferer=DiffusionClassifierInferer(
            DDPMScheduler(100, prediction_type="sample"), num_draws=5, map_weighting=None, map_smoothing=0
        ),
        postprocessing=Compose(postprocessing),
    )
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.extend(engine.state.output))
    evaluator.run()
    return outputs


@pytest.mark.parametrize("prediction", [torch.tensor([0.1, 0.2, 0.7]), torch.tensor(2), torch.tensor([2])])
def test_signed(prediction, device):
    result = ErrorMap()(MAPS.to(device), prediction.to(device))
    assert result.device.type == device
    torch.testing.assert_close(result.as_tensor().cpu(), decision_map(MAPS[None], torch.tensor([2])))


def test_unit_is_a_half_where_no_class_is_favoured():
    signed, unit = (ErrorMap(kind)(MAPS, torch.tensor(0)) for kind in ("signed", "unit"))
    assert unit.min() >= 0
    assert unit.max() <= 1
    torch.testing.assert_close((unit - 0.5) * 2 * signed.abs().max(), signed)
    assert (ErrorMap("unit")(torch.ones(2, 4, 5), torch.tensor(0)) == 0.5).all()


def test_overlay():
    image = torch.rand(1, 4, 5) * 2 - 1
    result = ErrorMap("overlay")(MAPS, torch.tensor(1), image)
    expected = overlay((image.numpy() + 1) / 2, decision_map(MAPS[None], torch.tensor([1]))[0].numpy(), size=1)
    assert result.shape == (3, 4, 5)
    np.testing.assert_allclose(result.permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_the_map_has_the_images_metadata_and_its_own_trace():
    image = MetaTensor(torch.zeros(1, 4, 5), affine=torch.diag(torch.tensor([2.0, 3, 4, 1])), meta={"a": "b"})
    image.applied_operations = [{"class": "Spacing"}]
    item = {"error_maps": MAPS, "pred": torch.tensor([1.0, 0, 0]), "image": image}
    result = ErrorMapd()(item)["decision_map"]
    assert torch.equal(result.affine, image.affine)
    assert (result.meta["a"], result.applied_operations) == ("b", [{"class": "Spacing"}])
    result.applied_operations.pop()
    assert len(image.applied_operations) == 1
    assert set(item) == {"error_maps", "pred", "image"}, "the item given is left as it was"


def test_refusals():
    with pytest.raises(ValueError, match=r"kind: expected one of \['signed', 'unit', 'overlay'\], got 'rgb'"):
        ErrorMap("rgb")
    with pytest.raises(ValueError, match=r"prediction: expected 3 probabilities.*got shape \[2\]"):
        ErrorMap()(MAPS, torch.rand(2))
    with pytest.raises(ValueError, match="kind: an overlay needs the 2D image, got no image; use 'signed'"):
        ErrorMap("overlay")(MAPS, torch.tensor(0))
    with pytest.raises(ValueError, match="kind: an overlay needs the 2D image, got a map of 3 dimensions"):
        ErrorMap("overlay")(MAPS[..., None], torch.tensor(0), torch.zeros(1, 4, 5, 1))
    with pytest.raises(ValueError, match="error_maps: expected error maps in the output, got none; they need all"):
        ErrorMapd()({"pred": torch.rand(2)})
    assert set(ErrorMapd(allow_missing_keys=True)({"pred": torch.rand(2)})) == {"pred"}
    assert ErrorMapD is ErrorMapDict is ErrorMapd


def test_nifti_in_the_grid_of_the_file(tmp_path, device):
    affine = np.array([[-1.5, 0, 0, 10], [0, 2, 0, -5], [0, 0, 3, 7], [0, 0, 0, 1.0]])
    rng = np.random.default_rng(0)
    for i in range(3):
        nibabel.save(nibabel.Nifti1Image(rng.uniform(size=(8, 6, 4)).astype(np.float32), affine), tmp_path / f"{i}.nii")
    before = [
        LoadImaged("image"),
        EnsureChannelFirstd("image"),
        ScaleIntensityd("image", minv=-1, maxv=1),
        Resized("image", (4, 6, 4)),
    ]
    save = SaveImaged(
        "decision_map", output_dir=str(tmp_path / "maps"), output_postfix="map", separate_folder=False, resample=True
    )
    items = [{"image": tmp_path / f"{i}.nii"} for i in range(3)]
    outputs = evaluate(items, Compose(before), [ErrorMapd(), save], device)
    assert sorted(file.name for file in (tmp_path / "maps").iterdir()) == [f"{i}_map.nii.gz" for i in range(3)]
    for i, output in enumerate(outputs):
        file = nibabel.load(tmp_path / "maps" / f"{i}_map.nii.gz")
        assert file.shape == (8, 6, 4)
        np.testing.assert_allclose(file.affine, affine)
        difference = output["decision_map"].cpu()[0]
        assert difference.shape == (4, 6, 4)
        assert difference.min() < 0 < difference.max()
        # From half the resolution along the first axis: the same on average, up to the edges.
        assert np.corrcoef(file.get_fdata().reshape(4, 2, 6, 4).mean(1).ravel(), difference.ravel())[0, 1] > 0.9


def test_nifti_in_the_grid_of_the_network_is_exact(tmp_path, device):
    items = [{"image": np.random.default_rng(i).uniform(size=(12, 9)), "key": f"film{i}"} for i in range(3)]
    before = Compose([ReadImaged("image", [8, 6], resize=True), ScaleIntensityd("image", minv=-1, maxv=1)])
    save = SaveImaged(
        "decision_map", output_dir=str(tmp_path), output_postfix="map", resample=True, separate_folder=False
    )
    for i, output in enumerate(evaluate(items, before, [ErrorMapd(), save], device)):
        stored = nibabel.load(tmp_path / f"film{i}_map.nii.gz").get_fdata()
        np.testing.assert_allclose(stored, output["decision_map"].cpu()[0].numpy(), rtol=1e-6)
        predicted = output["pred"].argmax()
        gap = output["errors"].double().mean(1)
        assert stored.mean() == pytest.approx(float(gap[1 - predicted] - gap[predicted]), abs=1e-6)


def test_png_of_monais_reader(tmp_path, device):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 12), dtype=np.uint8)
    pixels[:8] //= 3
    Image.fromarray(pixels).save(tmp_path / "film.png")
    before = [
        LoadImaged("image"),
        EnsureChannelFirstd("image"),
        ScaleIntensityd("image", minv=-1, maxv=1),
        Resized("image", (6, 8)),
    ]
    save = SaveImaged(
        "decision_map",
        output_dir=str(tmp_path),
        output_ext=".png",
        output_postfix="map",
        output_dtype="uint8",
        scale=255,
        resample=True,
        separate_folder=False,
    )
    items = [{"image": str(tmp_path / "film.png")}]
    (output,) = evaluate(items, Compose(before), [ErrorMapd(kind="unit"), save], device)
    stored = np.asarray(Image.open(tmp_path / "film_map.png"))
    assert stored.shape == (16, 12)
    # MONAI's reader turns the picture, its writer turns it back.
    shown = stored.astype(float).reshape(8, 2, 6, 2).mean((1, 3)).T
    assert np.corrcoef(shown.ravel(), output["decision_map"].cpu()[0].ravel())[0, 1] > 0.8


@pytest.mark.parametrize("kind", ["unit", "overlay"])
def test_png_is_upright(tmp_path, device, kind):
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 6), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"film{i}.png")
    save = SaveImaged(
        "picture",
        output_dir=str(tmp_path / "maps"),
        output_ext=".png",
        output_postfix="map",
        output_dtype="uint8",
        scale=255,
        resample=True,
        separate_folder=False,
    )
    save.set_options(write_kwargs={"reverse_indexing": False})
    before = Compose([ReadImaged("image", [8, 6]), ScaleIntensityd("image", minv=-1, maxv=1)])
    items = [{"image": str(tmp_path / f"film{i}.png")} for i in range(2)]
    post = [ErrorMapd(output_key="picture", kind=kind), save]
    for i, output in enumerate(evaluate(items, before, post, device)):
        stored = np.asarray(Image.open(tmp_path / "maps" / f"film{i}_map.png"))
        expected = 255 * output["picture"].cpu().numpy()
        assert stored.shape == ((8, 6) if kind == "unit" else (8, 6, 3))
        shown = stored[None] if kind == "unit" else np.moveaxis(stored, -1, 0)
        assert np.abs(shown - expected).max() <= 1
        assert stored.std() > 1


def test_former_keys():
    item = {"error_maps": MAPS, "pred": torch.tensor([1.0, 0, 0])}
    expected = ErrorMapd()(item)["decision_map"]
    assert ErrorMapd()(item)["error_map"] is not None, "where SaveImaged looked for it before"
    assert set(ErrorMapd(output_key="own")(item)) == {*item, "own"}
    with pytest.warns(DeprecationWarning, match="'explanation' is now 'error_maps'"):
        assert torch.equal(ErrorMapd(keys="explanation")(item)["decision_map"], expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = {"explanation": MAPS, "pred": torch.tensor([1.0, 0, 0])}
        assert torch.equal(ErrorMapd(keys="explanation")(own)["decision_map"], expected), "a key of the user's own"


def test_nifti_of_a_map_brought_back_by_invertd(tmp_path, device):
    """Written in the upright image's own size, it lies on the file, whose pixels are not square and stored turned."""
    array = np.zeros((50, 40, 1), dtype=np.uint8)
    array[12:17, 28:31] = 200
    affine = np.array([[0, -0.7, 0, 20], [-1.1, 0, 0, 9], [0, 0, 3, 0], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "a.nii")
    before = Compose([ReadImaged("image", [16, 16], resize=True), ScaleIntensityd("image", minv=-1, maxv=1)])
    after = [
        ErrorMapd(),
        Invertd("decision_map", before, orig_keys="image", nearest_interp=False),
        SaveImaged("decision_map", output_dir=tmp_path, output_postfix="map", resample=True, separate_folder=False),
    ]
    evaluate([{"image": str(tmp_path / "a.nii"), "label": 0}], before, after, device)
    written = nibabel.load(next(tmp_path.glob("a_map*")))
    values = np.squeeze(written.get_fdata())
    # The dark image is of class 0, but for the spot.
    spot = np.argwhere(values < values.min() / 2).mean(0)
    found = nibabel.affines.apply_affine(written.affine, [*spot, 0])
    expected = nibabel.affines.apply_affine(affine, [14, 29, 0])
    assert values.shape == (50, 40)
    assert np.linalg.norm(found - expected) < 1.5  # a pixel of the network is 1.75 mm


def test_map_of_a_coronal_plane_can_be_written(tmp_path, device):
    affine = np.array([[1.0, 0, 0, 20], [0, 0, 1, 9], [0, 1, 0, 5], [0, 0, 0, 1.0]])
    array = np.random.default_rng(0).integers(0, 256, (20, 20, 1), dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "a.nii")
    before = Compose([ReadImaged("image", [8, 8], resize=True), ScaleIntensityd("image", minv=-1, maxv=1)])
    save = SaveImaged("decision_map", output_dir=tmp_path, output_postfix="map", resample=True, separate_folder=False)
    (output,) = evaluate([{"image": str(tmp_path / "a.nii"), "label": 0}], before, [ErrorMapd(), save], device)
    stored = np.squeeze(nibabel.load(next(tmp_path.glob("a_map*"))).get_fdata())
    np.testing.assert_allclose(stored, output["decision_map"].cpu()[0].numpy(), rtol=1e-6)


def test_a_map_of_a_volume_is_saved_in_the_space_of_its_file(tmp_path):
    path = tmp_path / "scan.nii.gz"
    source = save_nifti(path, phantom(), codes="PSL")
    preprocessing = Compose(
        [
            ReadVolumed("image"),
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=(1.3, 1.3, 1.3), padding_mode="border"),
            ResizeWithPadOrCropd("image", (12, 10, 20)),
        ]
    )
    image = preprocessing({"image": path})["image"]
    item = {"image": image, "error_maps": torch.rand(2, 12, 10, 20), "pred": torch.tensor([0.2, 0.8])}
    expected = map_to_image_size(ErrorMapd()(item)["decision_map"].as_tensor()[0], image, preprocessing.transforms)
    Compose(
        [
            ErrorMapd(),
            Invertd("decision_map", preprocessing, orig_keys="image", nearest_interp=False),
            SaveImaged("decision_map", output_dir=tmp_path, output_postfix="map", separate_folder=False),
        ]
    )(item)
    found = nibabel.load(tmp_path / "scan_map.nii.gz")
    assert found.shape == source.shape and nibabel.aff2axcodes(found.affine) == ("P", "S", "L")
    np.testing.assert_allclose(found.affine, source.affine, atol=1e-5)
    np.testing.assert_allclose(found.get_fdata(), expected.numpy(), atol=1e-5)
