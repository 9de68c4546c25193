"""The recipe as a function of what was seen."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from monai_diffclf.bundle import BundleSettings, bundle_files
from monai_diffclf.bundle.settings import METHODS
from monai_diffclf.recipe import EncoderChoice, ImagesSeen, StepTime, choose_image_size, choose_recipe, recipe_unseen

SIX = ImagesSeen(
    tuple("abcdef"),
    {"train": (240,) * 6, "validation": (30,) * 6, "test": (30,) * 6},
    patients={"train": 700, "validation": 90, "test": 90},
)
TIME = StepTime(0.4, 0.002)


def seen(classes: int = 2, train: int = 1440, held_out: int = 180, **values) -> ImagesSeen:
    names = tuple(f"class {k}" for k in range(classes))
    images = {
        split: (count // classes,) * classes
        for split, count in (("train", train), ("validation", held_out), ("test", held_out))
    }
    return replace(SIX, classes=names, images=images, **values)


def test_six_classes_of_64_px():
    recipe = choose_recipe(SIX)
    assert (recipe.image_size, recipe.channels, recipe.steps) == ((64, 64), 1, 810)
    assert recipe.settings["denoiser#levels"] == 2 and recipe.settings["denoiser#channels"] == [32, 64, 64]
    assert recipe.warnings == ()
    assert recipe.steps == recipe.settings["max_epochs"] * (1440 // recipe.settings["batch_size"])
    assert recipe.evaluations == 360 * 6 * recipe.settings["num_draws"]
    assert recipe.validation_evaluations == 2 * 180 * 6 * recipe.settings["val_draws"]
    assert all(reason.endswith(".") and "\n" not in reason for reason in recipe.reasons)


def test_the_same_images_have_the_same_recipe():
    assert choose_recipe(SIX) == choose_recipe(SIX)
    assert choose_recipe(SIX).to_dict() == json.loads(json.dumps(choose_recipe(SIX).to_dict()))


@pytest.mark.parametrize(("images", "classes", "steps"), [(1440, 2, 800), (5760, 6, 1600), (360, 4, 400)])
def test_steps_go_with_the_square_root_of_the_number(images, classes, steps):
    recipe = choose_recipe(seen(classes, images))
    per_epoch = images // recipe.settings["batch_size"]
    assert recipe.steps == math.ceil(steps / per_epoch) * per_epoch


def test_more_classes_get_more_steps_and_fewer_draws():
    few, many = choose_recipe(seen(6, 4800)), choose_recipe(seen(24, 4800))
    assert many.steps == pytest.approx(2 * few.steps, rel=0.1)
    assert many.settings["num_draws"] < few.settings["num_draws"]
    assert all(3 <= recipe.settings["val_draws"] <= 9 for recipe in (few, many))


def test_evaluation_takes_less_than_the_training():
    """Where the number of draws is not at its least."""
    for number, classes in ((200, 2), (2000, 2), (2000, 20), (20_000, 5)):
        recipe = choose_recipe(seen(classes, number, number // 8))
        spent = 3 * recipe.steps * recipe.settings["batch_size"]
        assert recipe.settings["num_draws"] == 9 or recipe.evaluations <= 0.55 * spent
        assert recipe.settings["num_draws"] % 2 == 1 and recipe.settings["val_draws"] % 2 == 1


def test_small_sets_get_small_batches():
    assert choose_recipe(seen(2, 20, 10)).settings["batch_size"] == 8
    assert choose_recipe(seen(2, 100, 10)).settings["batch_size"] == 25
    assert choose_recipe(seen(2, 128, 10)).settings["batch_size"] == 32


@pytest.mark.parametrize(
    ("size", "channels", "levels", "widths"),
    [
        ((16, 16), 1, 1, [32, 64]),
        ((28, 28), 1, 1, [32, 64, 64]),
        ((28, 28), 3, 1, [32, 64, 64]),
        ((64, 64), 3, 2, [32, 64, 64]),
        ((96, 96), 1, 3, [64, 96, 96]),
        ((128, 128), 3, 3, [64, 96, 96]),
    ],
)
def test_levels_and_channels_by_size(size, channels, levels, widths):
    recipe = choose_recipe(seen(typical=size, smallest=size, largest=size, channels=channels), image_size=size)
    assert (recipe.settings["denoiser#levels"], recipe.settings["denoiser#channels"]) == (levels, widths)
    assert len(recipe.settings["denoiser#attention_levels"]) == len(widths)


def test_minutes_scale_the_steps():
    whole = choose_recipe(SIX)
    minutes = whole.training_seconds(TIME) / 60
    half, twice = (choose_recipe(SIX, minutes * factor, time=TIME) for factor in (0.5, 2))
    assert half.steps == pytest.approx(whole.steps / 2, rel=0.1)
    assert twice.steps == pytest.approx(whole.steps * 2, rel=0.1)
    assert half.training_seconds(TIME) <= 1.1 * 60 * minutes * 0.5
    assert any("fit into" in reason for reason in half.reasons)
    short = choose_recipe(SIX, 0.1, time=TIME)
    assert short.settings["max_epochs"] == 1 and "few: expect a poor model" in short.warnings[-1]


def test_an_epoch_that_takes_too_long_says_so():
    recipe = choose_recipe(SIX, 1e-3, time=TIME)
    assert recipe.settings["max_epochs"] == 1
    assert any("one epoch, the least, although it takes longer than 0.001 minutes" in each for each in recipe.reasons)


def test_shares_of_the_work_are_those_of_the_numbers():
    recipe = choose_recipe(SIX)
    work = 3 * recipe.steps * recipe.settings["batch_size"]
    assert any(f": {recipe.evaluations / work:.1f} times that work" in each for each in recipe.reasons)
    assert any(f": {recipe.validation_evaluations / work:.1f} times the work" in each for each in recipe.reasons)


@pytest.mark.parametrize("minutes", [0, -1, math.nan, math.inf])
def test_minutes_out_of_range(minutes):
    with pytest.raises(ValueError, match="minutes: expected a positive number"):
        choose_recipe(SIX, minutes, time=TIME)
    with pytest.raises(ValueError, match="time: expected what measure_steps found"):
        choose_recipe(SIX, 3)


def test_time_is_a_sum():
    recipe = choose_recipe(SIX)
    assert recipe.training_seconds(StepTime(1, 0)) == recipe.steps
    assert recipe.training_seconds(StepTime(0, 1)) == recipe.validation_evaluations
    assert recipe.evaluation_seconds(StepTime(9, 1)) == recipe.evaluations


@pytest.mark.parametrize("split", ["train", "validation"])
def test_refuses_a_class_without_images(split):
    with pytest.raises(ValueError, match=f"expected images of every class in '{split}', got none of 'c'"):
        choose_recipe(replace(SIX, images={**SIX.images, split: (9, 9, 0, 9, 9, 9)}))


def test_refuses_a_handful_of_images():
    with pytest.raises(ValueError, match="at least 8 training images of each class, got 1 of 'a'"):
        choose_recipe(replace(SIX, images={**SIX.images, "train": (1, 2, 3, 9, 9, 9)}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": {**SIX.images, "train": (99, *(240,) * 5)}}, "Few images: 99 of 'a'"),
        ({"images": {**SIX.images, "train": (1000, *(100,) * 5)}}, "unbalanced, 100 to 1000 images"),
        ({"images": {**SIX.images, "test": (0,) * 6}}, "There is no test set"),
        ({"images": {**SIX.images, "test": (1, 1, 0, 1, 1, 1)}}, "The test set has no image of 'c'"),
        ({"patients": {"train": None}}, "Patients are not known"),
        ({"typical": (1024, 1024)}, "reduced 16.0 times: what is smaller than 32 px"),
        ({"aspects": (0.5, 1.0)}, "of the longest one 50% is left"),
        ({"smallest": (20, 90)}, "The smallest image, 20 x 90 px, is enlarged more than twice"),
    ],
)
def test_warns_of_each_by_itself(changes, said):
    (warning,) = choose_recipe(replace(SIX, **changes)).warnings
    assert said in warning


def test_uneven_classes_are_said():
    recipe = choose_recipe(replace(SIX, images={**SIX.images, "train": (100, 200, 200, 200, 200, 200)}))
    assert any("although there are 100 to 200 of each" in reason for reason in recipe.reasons)
    assert not any("although" in reason for reason in choose_recipe(SIX).reasons)


@pytest.mark.parametrize(
    ("typical", "size"),
    [
        ((64, 64), (64, 64)),
        ((96, 96), (96, 96)),
        ((97, 97), (64, 64)),
        ((1024, 1024), (64, 64)),
        ((2048, 1024), (92, 44)),
        ((28, 28), (28, 28)),
        ((10, 20), (16, 32)),
        ((50, 70), (50, 70)),
    ],
)
def test_image_size(typical, size):
    sizes = {"typical": typical, "smallest": typical, "largest": typical}
    found, reason, _ = choose_image_size(replace(SIX, **sizes, aspects=(typical[1] / typical[0],) * 2))
    assert found == size and reason.startswith(f"{size[0]} x {size[1]} px: ")


def test_image_size_that_is_asked_for():
    large = replace(SIX, typical=(512, 512), smallest=(512, 512), largest=(512, 512))
    assert choose_image_size(large, 128)[:2] == ((128, 128), "128 x 128 px, as asked for.")
    assert "take long to train" in choose_image_size(large, [128, 128])[2][0]
    for wrong in (15, 257, [64], [64, 64, 64], [64, 6.5], True):
        with pytest.raises(ValueError, match="image_size: expected height and width"):
            choose_image_size(large, wrong)


def test_tiny_images_are_refused():
    with pytest.raises(ValueError, match="at least 8 px, got one of 7 x 30"):
        choose_recipe(replace(SIX, smallest=(7, 30)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_setting_is_one_of_the_template(method, channels):
    """`bundle_files` refuses an id that the template does not have, and a network that cannot be built."""
    images = seen(3, channels=channels, typical=(30, 40), smallest=(30, 40), largest=(30, 40))
    encoder = EncoderChoice("efficientnet_lite0", (7, 7), adapt=channels == 3) if method == "representation" else None
    chosen = choose_recipe(images, method=method, encoder=encoder)
    for recipe in (chosen, recipe_unseen(channels, (30, 40), method=method, encoder=encoder)):
        files = bundle_files(
            BundleSettings(
                name="own",
                classes=["a", "b", "c"],
                channels=channels,
                image_size=recipe.image_size,
                method=method,
                values=recipe.settings,
                configs=recipe.configs,
            )
        )
        train = json.loads(files["configs/train.json"])
        assert "brightness" not in train["augmentation"] and train["augmentation"]["flip"]["prob"] == 0
        # 3 % of the size worked at.
        shift = train["augmentation"]["affine"]["translate_range"]
        assert shift == ([6.7, 6.7] if encoder and recipe is chosen else [0.9, 1.2])
        assert all(train[name] == value for name, value in recipe.settings.items() if name in train)


def test_a_score_model_has_no_estimate_of_its_evaluation():
    assert choose_recipe(SIX, method="score").evaluation_seconds(TIME) is None
    assert choose_recipe(SIX, method="resnet18").evaluations == 360


LARGE = replace(SIX, typical=(767, 1022), smallest=(540, 720), largest=(767, 1022), aspects=(1.33, 1.33))
FROZEN = EncoderChoice("efficientnet_lite0", (7, 7))


def test_an_encoder_gets_its_size_and_large_images_are_pointed_to_it():
    assert choose_recipe(LARGE, method="representation", encoder=FROZEN).image_size == (224, 224)
    assert choose_image_size(LARGE, 1024, encoder="efficientnet_lite0")[0] == (1024, 1024)
    with pytest.raises(ValueError, match="from 16 to 1024 px, got 1025"):
        choose_image_size(LARGE, 1025, encoder="efficientnet_lite0")
    assert any("--encoder efficientnet_lite0" in text for text in choose_recipe(LARGE).warnings)
    warnings = choose_recipe(LARGE, method="representation", encoder=FROZEN).warnings
    assert any("reduced 4.6 times" in text and "up to 1024" in text for text in warnings)
    assert not any("--encoder" in text for text in warnings)


@pytest.mark.parametrize(
    ("encoder", "images", "expected"),
    [
        (FROZEN, SIX, 64),
        (replace(FROZEN, components=15), SIX, 15),
        (replace(FROZEN, grid=(1, 1)), seen(3, train=30, held_out=12), 29),
    ],
)
def test_components_are_at_most_what_features_and_images_allow(encoder, images, expected):
    recipe = choose_recipe(replace(images, smallest=(224, 224)), method="representation", encoder=encoder)
    assert recipe.settings["num_components"] == expected
    (reason,) = [reason for reason in recipe.reasons if "principal components" in reason]
    assert f"{expected} principal components" in reason and ("allow" in reason) == (expected < 64)


def test_layers_of_an_encoder_are_a_setting_and_named():
    recipe = recipe_unseen(3, (64, 64), method="representation", encoder=replace(FROZEN, layers=("stem", "blocks.4")))
    assert recipe.settings["encoder_layers"] == ["stem", "blocks.4"]
    assert any("7 x 7 tokens of an image by its layers stem, blocks.4;" in reason for reason in recipe.reasons)


def test_the_time_of_an_encoder_is_counted():
    """Images are encoded to fit the space, for the index, and as views; each costs what was measured."""
    recipe = choose_recipe(LARGE, method="representation", encoder=FROZEN)
    images, validated, tested = (LARGE.count(split) for split in ("train", "validation", "test"))
    views = recipe.settings["views"]
    assert recipe.training_seconds(StepTime(0, 0, encoding=1)) == images * (2 + views) + validated
    assert recipe.training_seconds(StepTime(0, 0, adaptation=1)) == 0
    assert recipe.evaluation_seconds(StepTime(9, 0, encoding=1)) == validated + tested
    adapted = choose_recipe(LARGE, method="representation", encoder=replace(FROZEN, adapt=True))
    assert adapted.training_seconds(StepTime(0, 0, adaptation=1)) == images * adapted.settings["adaptation"]["epochs"]
    assert any("adapted" in text for text in adapted.reasons) and any("frozen" in text for text in recipe.reasons)
    assert (adapted.settings["weighting"], "weighting" in recipe.settings) == ("learned", False)


def test_minutes_leave_room_for_encoding():
    time = StepTime(0.5, 0.0001, encoding=0.02)
    recipe = choose_recipe(LARGE, 15, time=time, method="representation", encoder=FROZEN)
    assert recipe.training_seconds(time) <= 15 * 60
    # Where encoding alone takes longer, one epoch is left.
    least = choose_recipe(LARGE, 0.1, time=time, method="representation", encoder=FROZEN)
    assert least.settings["max_epochs"] == 1


@pytest.mark.parametrize(("method", "encoder"), [("representation", None), ("diffusion", FROZEN)])
def test_an_encoder_goes_with_its_method(method, encoder):
    with pytest.raises(ValueError, match="encoder: expected one with method 'representation' and only there"):
        recipe_unseen(3, (224, 224), method=method, encoder=encoder)
