"""From result files to tables: against scikit-learn, and on made results whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.evidence import analysis
from benchmarks.evidence.analysis import compare, compare_all, holm, kinds_auroc, margin, method_metrics, paired
from benchmarks.evidence.data import Images
from benchmarks.evidence.few_draws import few_draws_of
from benchmarks.evidence.folds import folds_of, folds_rows
from benchmarks.evidence.kinds import kinds_of, kinds_rows
from benchmarks.evidence.markdown import filled
from benchmarks.evidence.measures import calibrated, temperature
from benchmarks.evidence.method import Prediction
from benchmarks.evidence.protocol import ROOT, protocol
from benchmarks.evidence.results import Result, read_result, result_path, results_of, write_result
from benchmarks.evidence.tables import SUMMARY, added, main, summarise, tables

SETS = protocol()["comparisons"]["data"]
EMPTY = Prediction(np.zeros((1, 3)))


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = protocol()
    monkeypatch.setitem(settings["analysis"], "resamples", 200)


def images(count: int = 90, tag: str = "") -> Images:
    keys = np.array([f"{tag}{number:03d}" for number in range(count)])
    return Images(np.zeros((count, 1, 1, 1), np.uint8), np.arange(count) % 3, keys, keys)


def probabilities(labels: np.ndarray, signal: float, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).standard_normal((len(labels), 3))
    logits[np.arange(len(labels)), labels] += signal
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def put(folder: Path, data: str, method: str, signal: float, *, seed: int = 0, condition: str = "primary", **more):
    test, validation = more.get("test", images()), images(30, "v")
    record = {"data": data, "split": more.get("split", "test"), "method": method, "condition": condition, "seed": seed}
    record |= {"settings": {}, "facts": {"training_seconds": 1, "parameters": 10}, "opening": {"repeat": False}}
    noise = sum(map(ord, method)) + 1000 * seed
    said = Prediction(probabilities(test.labels, signal, noise), more.get("unlikeness"))
    judged = Prediction(probabilities(validation.labels, signal, noise + 1))
    kinds, draws = more.get("kinds"), more.get("draws")
    return write_result(record, said, judged, (test, validation), kinds, draws, folder=folder)


def sklearn_auc(result: Result) -> float:
    p = result.probabilities / result.probabilities.sum(1, keepdims=True)
    return float(roc_auc_score(np.arange(90) % 3, p, multi_class="ovr"))


def test_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = put(tmp_path, "busi_224", "resnet18", 1.0, unlikeness=np.arange(90.0), kinds={"noise": np.ones(4)})
    assert path == result_path("busi_224", "test", "resnet18", "primary", 0, tmp_path)
    result = read_result(path)
    np.testing.assert_allclose(
        result.probabilities, probabilities(np.arange(90) % 3, 1.0, sum(map(ord, "resnet18"))), 1e-6
    )
    np.testing.assert_array_equal(result.unlikeness, np.arange(90))
    assert result.kinds["noise"].tolist() == [1, 1, 1, 1]
    assert len(result.record["protocol"]) == 64


def test_unlike_images_are_judged_kind_by_kind(tmp_path: Path) -> None:
    own, names = np.arange(90.0), ("from_isic2017_224", "from_kermany_cxr_224", "inverted", "shuffled", "noise_image")
    far = {name: np.full(10, 100.0) for name in names}
    put(tmp_path, "busi_224", "diffusion_representation", 1, condition="other_kinds", unlikeness=own, kinds=far)
    near = far | {"shuffled": np.full(10, 44.5)}  # half of the test images look less likely
    put(tmp_path, "busi_224", "pixels_logistic", 1, condition="other_kinds", unlikeness=own, kinds=near)
    put(tmp_path, "busi_224", "cnn_finetuned", 1, condition="other_kinds")  # without a score
    asked = added()["kinds"]
    first, second = kinds_of(asked, tmp_path)
    assert (first["method"], first["mean"]["value"]) == ("diffusion_representation", 1.0)
    assert second["kinds"] == {name: 0.5 if name == "shuffled" else 1.0 for name in names}
    assert second["mean"]["value"] == pytest.approx(0.9)
    assert [row[-1] for row in kinds_rows(asked, [first, second])[1]] == ["yes; yes", ""]
    put(
        tmp_path,
        "busi_224",
        "diffusion_representation",
        1,
        condition="other_kinds/training",
        unlikeness=own,
        kinds=near,
    )
    rows = kinds_of(asked, tmp_path)
    assert [row["method"] for row in rows] == [first["method"], f"{first['method']}/training", "pixels_logistic"]
    assert [row[-1] for row in kinds_rows(asked, rows)[1]] == ["yes; yes", "no; no", ""]
    worse = [first | {"mean": second["mean"], "kinds": second["kinds"]}, second]
    assert kinds_rows(asked, worse)[1][0][-1] == "no; no"


def test_one_draw_is_compared_with_all_draws_of_the_same_trainings(tmp_path: Path) -> None:
    method, classes = "diffusion_adapted", np.arange(90.0) % 3
    for seed in range(3):
        put(tmp_path, "busi_224", method, 2.0, seed=seed)
    assert few_draws_of("busi_224", method, folder=tmp_path) is None
    stopped = classes.copy()
    stopped[:9] = (stopped[:9] + 1) % 3  # nine in ninety get another class
    spent = np.where(np.arange(90) < 18, 30.0, 3.0)  # and eighteen spend more than one draw
    draws = {"stopped": stopped, "all": classes, "evaluations": spent}
    for seed in (1, 2):
        put(tmp_path, "busi_224", method, 0.5, seed=seed, condition="few_draws", draws=draws)
    found = few_draws_of("busi_224", method, folder=tmp_path)
    assert found is not None
    assert found["seeds"] == [1, 2]  # the first training was not asked
    assert (found["agreement"], found["first"], found["evaluations"]) == pytest.approx((0.9, 0.8, 8.4))
    one, everything = (
        np.mean([sklearn_auc(r) for r in results_of("busi_224", method, name, folder=tmp_path) if r.record["seed"] > 0])
        for name in ("few_draws", "primary")
    )
    assert (found["one"], found["all"], found["value"]) == pytest.approx((one, everything, one - everything))
    assert found["low"] < found["value"] < found["high"] < 0
    table = tables(summarise(tmp_path, tmp_path / "ledger.json"))["few_draws"]
    assert table.splitlines()[-1].endswith("| no | 8.4 | 80.0% | 90.0% | no |")


def test_longer_training_stands_beside_the_first(tmp_path: Path) -> None:
    put(tmp_path, "isic2017_64", "diffusion_contrastive", 0.1)
    assert "diffusion_contrastive" not in tables(summarise(tmp_path, tmp_path / "ledger.json"))["longer"]
    put(tmp_path, "isic2017_64", "diffusion_contrastive", 3.0, condition="longer")
    summary = summarise(tmp_path, tmp_path / "ledger.json")
    first = summary["metrics"]["isic2017_64"]["test"]["diffusion_contrastive"]["macro_auc"]["value"]
    assert first < 0.75 < summary["added"]["longer"][0]["macro_auc"]["value"]
    assert "| 0.75 | yes |" in tables(summary)["longer"]


def test_metrics_are_those_of_scikit_learn_and_intervals_hold_them(tmp_path: Path) -> None:
    for seed in range(3):
        put(tmp_path, "busi_224", "resnet18", 1.0, seed=seed)
    found = method_metrics("busi_224", "resnet18", folder=tmp_path)
    assert found is not None
    expected = [sklearn_auc(result) for result in results_of("busi_224", "resnet18", "primary", folder=tmp_path)]
    assert found["macro_auc"]["value"] == pytest.approx(np.mean(expected))
    assert list(found["macro_auc"]["seeds"].values()) == pytest.approx(expected)
    assert found["macro_auc"]["low"] < found["macro_auc"]["value"] < found["macro_auc"]["high"]
    assert "binary_auc" not in found
    assert method_metrics("busi_224", "densenet121", folder=tmp_path) is None


def test_images_that_differ_are_not_compared(tmp_path: Path) -> None:
    put(tmp_path, "isic2017_224", "diffusion_representation", 1.0)
    put(tmp_path, "isic2017_64", "resnet18", 0.5, test=images(90, "other"))
    with pytest.raises(ValueError, match="expected the same test images"):
        paired(("isic2017_224", "isic2017_64"), ("diffusion_representation", "resnet18"), folder=tmp_path)
    put(tmp_path, "isic2017_64", "resnet18", 0.5, seed=1)
    with pytest.raises(ValueError, match="expected the same test images for all seeds"):
        results_of("isic2017_64", "resnet18", "primary", folder=tmp_path)


def test_margin_asks_for_the_lower_bound(tmp_path: Path) -> None:
    row = {"data": "busi_224", "method": "diffusion_representation", "reference": "cnn_finetuned"}
    assert margin({**row, "margin": 0.02}, tmp_path) is None
    put(tmp_path, "busi_224", "diffusion_representation", 0.5)
    put(tmp_path, "busi_224", "cnn_finetuned", 1.5)
    narrow, wide = (margin({**row, "margin": size}, tmp_path) for size in (0.02, 0.6))
    assert narrow is not None
    assert wide is not None
    assert not narrow["not_inferior"]
    assert wide["not_inferior"]
    assert -0.6 < narrow["low"] <= narrow["value"] < 0


@pytest.mark.parametrize(
    ("signals", "verdict"),
    [
        ({"linear_probe": 0.5, "cnn_finetuned": 0.5}, "won"),
        ({"linear_probe": 0.5, "cnn_finetuned": 5.0}, "lost"),
        ({"linear_probe": 2.0, "cnn_finetuned": 2.0}, "undecided"),
        ({"linear_probe": 0.5}, "undecided: comparators missing"),
    ],
)
def test_verdicts_on_made_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: dict[str, float], verdict: str
) -> None:
    monkeypatch.setitem(protocol()["analysis"], "resamples", 1000)  # 22 p values of 2 / 1001 are below 0.05
    for data in SETS:
        for method, signal in {"diffusion_representation": 2.0, **signals}.items():
            for condition in ("corruption/noise/0.08", "corruption/noise/0.16"):
                put(tmp_path, data, method, signal, condition=condition)
    found = compare_all(tmp_path)
    assert found["noise"]["verdict"] == verdict
    assert {name: one["verdict"] for name, one in found.items() if name != "noise"} == dict.fromkeys(
        [name for name in found if name != "noise"], "not run"
    )
    assert found["noise"]["corrected_better"] >= found["noise"]["p_better"]


def test_smaller_is_better_turns_the_difference(tmp_path: Path) -> None:
    for data in SETS:
        put(tmp_path, data, "diffusion_representation", 3.0)
        put(tmp_path, data, "linear_probe", 0.5)
    found = compare("selective", tmp_path)
    assert found["values"]["diffusion_representation"] < found["values"]["linear_probe"]
    assert found["differences"]["linear_probe"]["value"] > 0


def test_method_without_randomness_serves_all_seeds_where_nothing_is_drawn(tmp_path: Path) -> None:
    settings = protocol()["comparisons"]["list"]["more_images"]
    put(tmp_path, "busi_224", "linear_probe", 1.0)
    for seed in range(3):
        for fraction in ("0.25", "0.5"):
            put(tmp_path, "busi_224", "linear_probe", 1.0, seed=seed, condition=f"learning_curve/{fraction}")
    runs = analysis._runs("busi_224", "linear_probe", settings, tmp_path)
    assert {seed: len(results) for seed, results in runs.items()} == {0: 3, 1: 3, 2: 3}
    assert len({id(results[2]) for results in runs.values()}) == 1


def test_images_of_other_kinds_are_averaged_over_kinds(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).standard_normal(90)
    for data in SETS:
        for method, shift in (("diffusion_representation", 3.0), ("linear_probe", 0.0), ("resnet18", 1.0)):
            kinds = {kind: np.random.default_rng(1).standard_normal(50) + shift for kind in ("a", "b")}
            put(tmp_path, data, method, 1.0, condition="other_kinds", unlikeness=scores, kinds=kinds)
    found = compare("other_kinds", tmp_path)
    expected = roc_auc_score(np.repeat([0, 1], [90, 50]), np.concatenate([scores, kinds["a"]]))
    assert found["values"]["resnet18"] == pytest.approx(expected)
    assert found["values"]["diffusion_representation"] > 0.95
    weights = np.ones((3, 4))
    assert kinds_auroc([0, 0, 1, 2], [0.1, 0.2, 0.3, 0.15], weights=weights).tolist() == [0.75] * 3


def test_holm_is_that_of_its_definition() -> None:
    p = np.random.default_rng(0).random(11)
    order = np.argsort(p)
    steps = np.maximum.accumulate([min(1.0, (11 - rank) * p[place]) for rank, place in enumerate(order)])
    np.testing.assert_allclose(np.asarray(holm(p.tolist()))[order], steps)
    assert holm([1.0] * 3) == [1.0] * 3


def test_temperature_recovers_the_one_that_labels_were_drawn_with() -> None:
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((20000, 3))
    truth = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (rng.random((20000, 1)) > truth.cumsum(1)[:, :2]).sum(1)
    over = calibrated(truth, 0.5)
    assert temperature(labels, over) == pytest.approx(2.0, rel=0.03)
    np.testing.assert_allclose(calibrated(over, 2.0), truth, atol=1e-9)


def test_tables_of_made_results_say_what_was_run(tmp_path: Path) -> None:
    for data in SETS:
        put(tmp_path, data, "diffusion_representation", 2.0)
        put(tmp_path, data, "linear_probe", 1.0)
    (tmp_path / "openings.json").write_text("[]")
    found = tables(summarise(tmp_path, tmp_path / "openings.json"))
    assert "| `busi_224` | `linear_probe` | 1 |" in found["methods"]
    assert found["comparisons"].count("not run") == 9
    assert found["comparisons"].count("undecided: comparators missing") == 2
    assert found["questions"].count("not run") >= 5
    with pytest.raises(ValueError, match="expected <!-- begin methods -->"):
        filled("nothing", found)


def test_questions_asked_later_are_answered_apart(tmp_path: Path) -> None:
    put(tmp_path, "busi_224", "diffusion_adapted", 3.0)
    put(tmp_path, "busi_224", "cnn_finetuned", 0.5)
    (tmp_path / "openings.json").write_text("[]")
    summary = summarise(tmp_path, tmp_path / "openings.json")
    (gap,) = summary["added"]["margins"]
    assert gap["not_inferior"] and gap["low"] > 0 and not summary["margins"]
    found = tables(summary)
    assert "| `busi_224` | `diffusion_adapted` against `cnn_finetuned` | not inferior, 0.02 |" in found["added"]
    assert "`busi_224` | `diffusion_adapted` | macro_auc at least 0.92 |" in found["added"]
    assert found["added"].count("not run") == 4
    assert "diffusion_adapted` | macro_auc at least 0.92" not in found["questions"]


def test_document_has_the_tables_of_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SUMMARY.is_file()
    assert (ROOT / "docs" / "evidence.md").is_file()
    monkeypatch.setattr("sys.argv", ["tables", "--check"])
    assert main() == 0


def test_folds_are_the_mean_of_their_test_parts(tmp_path: Path) -> None:
    signals = {"cnn_finetuned": 2.0, "diffusion_adapted": 2.5, "linear_probe": 0.5}
    for fold in range(5):
        for method, signal in signals.items():
            more = {"split": f"fold{fold}", "test": images(60 + 30 * fold, f"f{fold}_")}
            if (method, fold) != ("linear_probe", 4):
                put(tmp_path, "busi_224", method, signal - 0.2 * fold, **more)
    found = {row["method"]: row for row in folds_of(folder=tmp_path)}
    assert list(found) == ["cnn_finetuned", "diffusion_adapted"], "a method counts once all of its folds are there"
    for method, row in found.items():
        parts = [results_of("busi_224", method, "primary", f"fold{fold}", tmp_path)[0] for fold in range(5)]
        aucs = []
        for part in parts:
            p = part.probabilities / part.probabilities.sum(1, keepdims=True)
            aucs.append(roc_auc_score(np.arange(len(p)) % 3, p, multi_class="ovr"))
        np.testing.assert_allclose(row["folds"], aucs)
        assert row["mean"]["value"] == pytest.approx(np.mean(aucs)), "folds count alike, however many images they have"
        assert row["mean"]["low"] < row["mean"]["value"] < row["mean"]["high"]
    first, second = found["cnn_finetuned"], found["diffusion_adapted"]
    assert first["gap"] is None
    assert second["gap"]["value"] == pytest.approx(second["mean"]["value"] - first["mean"]["value"])
    assert second["gap"]["low"] > 0
    width = second["mean"]["high"] - second["mean"]["low"]
    alone = analysis.interval(
        analysis.of_split("busi_224", ["diffusion_adapted"], "fold0", "macro_auc", tmp_path, 0)["diffusion_adapted"]
    )
    assert width < alone["high"] - alone["low"], "folds are resampled each on its own"
    heads, rows = folds_rows(folds_of(folder=tmp_path))
    assert [len(row) for row in rows] == [len(heads)] * 2
    assert rows[0][:2] == ["`busi_224`", "`cnn_finetuned`"]
    assert rows[0][4] == ""
