"""What the page keeps of a case: pictures, votes and numbers, decoded again."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from monai_diffclf.classification import DenoisingErrors
from monai_diffclf.report import Case, CounterfactualPair
from monai_diffclf.report.case import NearImage
from monai_diffclf.report.case_pictures import film, signed_film, thumbnail
from monai_diffclf.report.case_record import encode_case, to_json


def pixels(address: str) -> np.ndarray:
    assert address.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))


def case(**settings) -> Case:
    image = np.linspace(-1, 1, 48).reshape(1, 8, 6)
    return Case(**{"key": "film", "image": image, "probabilities": np.array([0.3, 0.7]), **settings})


@pytest.mark.parametrize("channels", [1, 3])
def test_images_keep_their_grey_values(channels):
    image = np.random.default_rng(0).uniform(-1.2, 1.2, (channels, 5, 7))
    shown = pixels(film(image))
    expected = (255 * (np.clip(image, -1, 1) + 1) / 2).round()
    np.testing.assert_array_equal(shown if channels == 3 else shown[..., None], np.moveaxis(expected, 0, -1))


def test_thumbnails_are_small_and_keep_their_shape():
    assert pixels(thumbnail(np.zeros((1, 200, 100)))).shape == (40, 20)
    assert pixels(thumbnail(np.zeros((3, 8, 6)))).shape == (8, 6, 3)


def test_a_map_is_opaque_where_it_is_large_and_coloured_by_its_sign():
    difference = np.zeros((20, 20))
    difference[2, 3], difference[5, 5], difference[9, 9] = 4.0, -4.0, 1.0
    painted, limit = signed_film(np.pad(difference, ((0, 0), (0, 0))), ("#ff0000", "#0000ff"))
    shown = pixels(painted)
    assert limit == pytest.approx(np.quantile(np.abs(difference), 0.995))
    assert shown[2, 3].tolist() == [255, 0, 0, 255]
    assert shown[5, 5].tolist() == [0, 0, 255, 255]
    assert shown[9, 9, 3] == round(255 * min(1, 1 / limit))
    assert shown[0, 0, 3] == 0


def test_a_map_without_differences_is_clear():
    painted, limit = signed_film(np.zeros((4, 4)), ("#ff0000", "#0000ff"))
    assert limit == 0
    assert (pixels(painted)[..., 3] == 0).all()


def test_row_and_content():
    record = encode_case(
        case(
            label=0,
            uncertainty={"vote_margin": 0.123456789},
            prediction_set=[1],
            ood_p_value=0.25,
            ood_score=3.5,
            vote_share=np.array([0.25, 0.75]),
            network_evaluations=10,
            decided=np.bool_(False),
        )
    )
    row, content = json.loads(to_json(record.row)), json.loads(record.content)
    assert row.pop("thumbnail").startswith("data:image/png")
    assert row == {
        "key": "film",
        "image": "film",
        "finding": None,
        "predicted": 1,
        "probability": 0.7,
        "label": 0,
        "uncertainty": {"vote_margin": 0.123457},
        "set": [1],
        "warned": False,
        "ood": 0.25,
    }
    assert (content["voteShare"], content["networkEvaluations"], content["decided"]) == ([0.25, 0.75], 10, False)
    assert content["map"] is content["draws"] is content["counterfactual"] is record.map_limit is None


@pytest.mark.parametrize(("settings", "rival"), [({}, 0), ({"rival": 0}, 0)])
def test_the_map_is_shown_as_it_is_and_knows_its_rival(settings, rival):
    difference = np.random.default_rng(0).normal(size=(8, 6))
    record = encode_case(case(decision_map=difference, **settings))
    content = json.loads(record.content)
    assert content["rival"] == rival
    assert record.map_limit == pytest.approx(np.quantile(np.abs(difference), 0.995))
    shown = pixels(content["map"])
    # Class 1's colour where it speaks for the class called, class 0's elsewhere.
    np.testing.assert_array_equal(shown[..., 0] > shown[..., 2], difference > 0)


def test_of_three_classes_the_rival_may_be_unknown():
    three = case(probabilities=np.array([0.2, 0.5, 0.3]), decision_map=np.ones((8, 6)))
    assert json.loads(encode_case(three).content)["rival"] is None


def test_counterfactual_in_shares_of_the_grey_range():
    image = np.zeros((1, 8, 6))
    brighter = image.copy()
    brighter[0, :4] = 0.5
    brighter[0, 4:] = -0.5
    pair = CounterfactualPair(factual=image, counterfactual=brighter, target=0, flipped=True, drift=0.1, warning="x")
    shown = json.loads(encode_case(case(image=image, counterfactual=pair)).content)["counterfactual"]
    assert shown["differenceLimit"] == pytest.approx(0.25)
    assert (shown["drift"], shown["flipped"], shown["flippedBaseline"]) == (0.05, True, None)
    assert (shown["warning"], shown["target"]) == ("x", 0)
    colours = pixels(shown["difference"])
    assert (colours[..., 3] == 255).all()
    assert colours[0, 0].tolist() != colours[7, 0].tolist()


def errors(values, log_snr=None) -> DenoisingErrors:
    values = torch.as_tensor(values, dtype=torch.float32)[None]
    count = values.shape[2]
    return DenoisingErrors(values, torch.arange(count), torch.arange(count).float() if log_snr is None else log_snr)


def test_draws_by_rising_noise():
    made = errors([[0.4, 0.1, 0.2, torch.nan], [0.2, 0.3, 0.2, torch.nan]])
    draws = json.loads(encode_case(case(errors=made)).content)["draws"]
    assert draws["logSnr"] == [2, 1, 0]
    assert draws["winner"] == [-1, 0, 1], "-1 for a tie"
    assert draws["advantage"] == pytest.approx([0, (0.1 - 0.3) / 0.2, (0.4 - 0.2) / 0.3], abs=1e-5)
    assert draws["bands"] == [{"from": 2, "to": 0, "votes": [1.5, 1.5]}]


def test_bands_hold_all_votes_and_meet():
    rng = torch.Generator().manual_seed(0)
    values, log_snr = torch.rand(3, 101, generator=rng), torch.randn(101, generator=rng)
    three = case(probabilities=np.array([0.2, 0.5, 0.3]), errors=errors(values, log_snr))
    draws = json.loads(encode_case(three).content)["draws"]
    bands = draws["bands"]
    assert len(bands) == 12
    assert np.sum([band["votes"] for band in bands], axis=0).tolist() == values.argmin(0).bincount().tolist()
    assert [band["to"] for band in bands[:-1]] == [band["from"] for band in bands[1:]]
    assert (np.diff(draws["logSnr"]) <= 0).all()
    assert bands[0]["from"] == pytest.approx(log_snr.max().item(), abs=1e-3)
    assert bands[-1]["to"] == pytest.approx(log_snr.min().item(), abs=1e-3)


def test_no_draw_made():
    nothing = errors(torch.full((2, 4), torch.nan))
    assert json.loads(encode_case(case(errors=nothing)).content)["draws"] is None


def test_json_is_safe_inside_a_script():
    text = to_json({"key": "</script><!--&", "bad": float("inf"), "array": torch.tensor([1, 2]), "third": 1 / 3})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"key": "</script><!--&", "bad": None, "array": [1, 2], "third": 0.333333}


def test_an_image_to_beware_of_is_marked_in_the_list():
    record = encode_case(case(warnings="every pixel has the same value, 0"))
    assert record.row["warned"] is True
    assert json.loads(record.content)["warnings"] == "every pixel has the same value, 0"


def test_near_images_are_kept_with_and_without_a_picture():
    picture = np.full((1, 4, 4), -1.0)
    near = [
        NearImage(key="</script>", label=1, distance=0.5, picture=picture),
        NearImage(key="b", label=0, distance=2.0, as_class=0),
    ]
    record = encode_case(case(nearest=near))
    assert "</script>" not in record.content
    first, second = json.loads(record.content)["nearest"]
    assert pixels(first.pop("picture")).max() == 0
    assert first == {"key": "</script>", "label": 1, "distance": 0.5, "asClass": None}
    assert second == {"key": "b", "label": 0, "distance": 2.0, "picture": None, "asClass": 0}
    assert json.loads(encode_case(case()).content)["nearest"] == []


def test_near_images_of_unknown_classes_are_refused():
    with pytest.raises(ValueError, match="nearest: expected 0 to 1 in case 'film', got"):
        case(nearest=[NearImage(key="a", label=2, distance=0.0)])
