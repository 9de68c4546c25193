"""A model trained on the labels of its server's folder, from the request to the weights that are served."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.monailabel.label_studies import write_series_studies, write_small_bundle, write_studies

NAME = "halves"


@pytest.fixture(scope="module")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that trains fast."""
    return write_small_bundle(tmp_path_factory.mktemp("small") / NAME)


@pytest.fixture
def make_training(monailabel: None, small_bundle: Path) -> Iterator[Any]:
    """Makes what trains, for a folder of studies."""
    from monai_diffclf.monailabel.bundle_model import BundleModel
    from monai_diffclf.monailabel.infer_task import DiffusionClassifierTask
    from monai_diffclf.monailabel.inference_queue import InferenceQueue
    from monai_diffclf.monailabel.training_job import Training

    made = []

    def make(studies: Path | None, bundle: Path = small_bundle, **more: Any) -> Any:
        tasks = {bundle.name: DiffusionClassifierTask(BundleModel(bundle))}
        made.append(Training(tasks, studies, InferenceQueue(4, 100.0), **more))
        return made[-1]

    yield make
    for each in made:
        each.close()
        each.queue.close()


def wait(training: Any, seconds: float = 240) -> dict[str, Any]:
    """The state at the end; loading PyTorch takes its time where all cores are busy."""
    end = time.monotonic() + seconds
    while (state := training.state())["status"] == "RUNNING" and time.monotonic() < end:
        time.sleep(0.05)
    return dict(state)


def refused(call: Any) -> tuple[int, str]:
    """Status and reason of a refusal."""
    from fastapi import HTTPException

    with pytest.raises(HTTPException) as error:
        call()
    assert "\n" not in error.value.detail
    return error.value.status_code, error.value.detail


def test_labels_train_judge_and_change_what_is_served(make_training: Any, tmp_path: Path) -> None:
    studies, changed = write_studies(tmp_path / "studies", 60), []
    training = make_training(studies, on_served=changed.append)
    task = training.tasks[NAME]
    before = task.model.made_by()
    started = training.start(NAME, {"max_epochs": 12, "learning_rate": 3e-3, "serve": "always", "epohcs": 2})
    assert started["status"] == "RUNNING" and started["request"]["ignored"] == ("epohcs",)
    assert refused(lambda: training.start(NAME, {}))[0] == 409
    state = wait(training)
    assert state["status"] == "DONE", state
    result = state["result"]
    assert result["images"] == started["labels"]["held_back"] and result["version"] == "0001"
    former = result["new"]["value"] - result["difference"]["value"]
    assert result["before"]["value"] == pytest.approx(former)
    assert 0 <= former <= 1 and result["served"] == "0001" and changed == [NAME]
    assert result["better"] == (result["difference"]["value"] >= 0.01)
    assert task.model.made_by() != before and task.model.run == studies / "models" / NAME / "0001"
    note = json.loads((studies / "models" / NAME / "0001" / "training.json").read_text())
    assert note["begins_with"] == "bundle" and note["settings"]["max_epochs"] == 12
    train, judge = note["labels"]["train"], note["labels"]["held_back"]
    assert len(train) + len(judge) == 60 and {tag for each in train for tag in each["tags"]} == {"final"}
    assert len({each["sha256"] for each in train + judge}) == 60
    listed = training.list_weights(NAME)
    assert listed["served"] == "0001" and [each["version"] for each in listed["weights"]] == ["bundle", "0001"]
    training.serve(NAME, "bundle")
    assert task.model.made_by() == before and training.list_weights(NAME)["served"] == "bundle"
    training.serve(NAME, "0001")
    again = make_training(studies)  # the server started anew
    assert again.tasks[NAME].model.made_by() == task.model.made_by() != before
    assert refused(lambda: training.serve(NAME, "0007")) == (
        422,
        "weights: expected one of ['bundle', '0001'], got '0007'",
    )


def test_series_of_slices_are_trained_on(make_training: Any, tmp_path: Path) -> None:
    bundle = write_small_bundle(tmp_path / "volumes", volumes=True)
    training = make_training(write_series_studies(tmp_path / "studies", 60), bundle)
    training.start("volumes", {"max_epochs": 1, "serve": "always"})
    state = wait(training)
    assert state["status"] == "DONE", state
    labels = json.loads((tmp_path / "studies/models/volumes/0001/training.json").read_text())["labels"]
    assert len(labels["train"]) + len(labels["held_back"]) == 60 and not labels["left_out"]
    assert len({each["sha256"] for each in labels["train"] + labels["held_back"]}) == 60
    patients = [{each["patient"] for each in labels[part]} for part in ("train", "held_back")]
    assert not patients[0] & patients[1] and sum(map(len, patients)) == 30


def test_only_what_gains_the_margin_is_served(make_training: Any, tmp_path: Path) -> None:
    from monai_diffclf.monailabel.train_request import parse_train_request
    from monai_diffclf.monailabel.trained_weights import WEIGHTS

    studies = write_studies(tmp_path / "studies", 60)
    training = make_training(studies)
    model = training.tasks[NAME].model
    served = []
    for gain, params in (
        (0.04, {"margin": 0.05}),
        (0.06, {"margin": 0.05}),
        (0.0, {"margin": 0}),
        (0.9, {"serve": "never"}),
    ):
        weights, request = training.weights(NAME), parse_train_request(params)
        run = weights.begin() / "run"
        run.mkdir()
        (run / WEIGHTS).write_bytes((model.folder / "models" / WEIGHTS).read_bytes())
        for name in ("labels.csv", "training.log"):
            (weights.running / name).touch()
        result = {"difference": {"value": gain}, "network": "abc"}
        (weights.running / "result.json").write_text(json.dumps(result))
        served.append(training._keep(NAME, weights, {}, request)["served"])
        weights.end()
    assert served == ["bundle", "0002", "0002", "0002"]
    assert training.weights(NAME).versions() == ["0001", "0002", "0003", "0004"], "the others are kept"


def test_a_stopped_training_leaves_nothing(make_training: Any, tmp_path: Path) -> None:
    studies = write_studies(tmp_path / "studies", 60)
    training = make_training(studies)
    assert training.state() is None and training.stop() is None
    training.start(NAME, {"max_epochs": 5000})
    training.stop()
    assert wait(training)["status"] == "STOPPED"
    assert training.list_weights(NAME) == {"model": NAME, "served": "bundle", "weights": [{"version": "bundle"}]}


def test_what_cannot_be_trained_is_told_in_one_line(make_training: Any, tmp_path: Path) -> None:
    training = make_training(write_studies(tmp_path / "few", 8))
    assert refused(lambda: training.start(NAME, {}))[1].startswith("labels: expected at least 5 of")
    assert refused(lambda: training.start("other", {})) == (404, "model: expected one of ['halves'], got 'other'")
    assert refused(lambda: training.start(NAME, {"margin": 3}))[0] == 422
    assert not (tmp_path / "few" / "models").exists()
    away = make_training(None)
    assert refused(lambda: away.start(NAME, {}))[1].startswith("train: labels and weights are stored with a folder")
    phantoms = Path(__file__).resolve().parents[2] / "bundles" / "phantom_xray_diffusion"
    studies = write_studies(tmp_path / "many", 60)
    store = studies / "datastore_v2.json"
    store.write_text(store.read_text().replace('"left"', '"clear"').replace('"right"', '"lesion"'))
    other = make_training(studies, phantoms)
    assert "on images that it makes or reads by itself" in refused(lambda: other.start(phantoms.name, {}))[1]


def test_a_training_that_fails_says_why(make_training: Any, tmp_path: Path) -> None:
    studies = write_studies(tmp_path / "studies", 60)
    training = make_training(studies)
    (studies / "p000.png").write_bytes(b"no image")
    training.start(NAME, {"max_epochs": 1})
    state = wait(training)
    assert state["status"] == "ERROR" and "p000.png" in state["error"] and training.weights(NAME).versions() == []


def test_a_training_ends_with_its_server(
    make_training: Any, small_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from monai_diffclf.monailabel.train_process import RESULT, TrainPlan, main
    from monai_diffclf.monailabel.train_request import TrainRequest

    training = make_training(write_studies(tmp_path / "studies", 60))
    weights = training.weights(NAME)
    plan, _, table = training._prepare(NAME, training.tasks[NAME].model, TrainRequest(max_epochs=2), weights)
    weights.begin()
    Path(plan.table).write_text(table)
    orphan = TrainPlan(**{**vars(plan), "parent": -1})
    orphan.save(weights.running / "plan.json")
    assert main([str(weights.running / "plan.json")]) == 1
    assert "error: the server has ended" in capsys.readouterr().err
    assert not (weights.running / RESULT).exists() and weights.versions() == []


def test_one_server_of_a_folder_trains_a_model_at_a_time(make_training: Any, tmp_path: Path) -> None:
    studies = write_studies(tmp_path / "studies", 60)
    first, second = make_training(studies), make_training(studies)
    first.start(NAME, {"max_epochs": 12, "serve": "always"})
    plan = (studies / "models" / NAME / "running" / "plan.json").read_bytes()
    status, reason = refused(lambda: second.start(NAME, {"max_epochs": 1}))
    assert (status, second.state()) == (409, None)
    assert reason.startswith(f"train: {NAME} is being trained by another server of {studies}, or by one that")
    assert (studies / "models" / NAME / "running" / "plan.json").read_bytes() == plan
    assert wait(first)["status"] == "DONE" and first.weights(NAME).served() == "0001"
    assert second.start(NAME, {"max_epochs": 5000})["status"] == "RUNNING"
    assert refused(lambda: first.start(NAME, {}))[0] == 409
    second._process.kill()  # as the system does where memory runs out
    state = wait(second)
    assert (state["status"], "killed by signal 9" in state["error"]) == ("ERROR", True), state
    assert first.list_weights(NAME)["served"] == "0001" and first.weights(NAME).run_of("0001") is not None
    assert first.start(NAME, {"max_epochs": 5000})["status"] == "RUNNING", "nothing is left that blocks it"


def test_a_training_that_cannot_be_started_blocks_none(
    make_training: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monai_diffclf.monailabel import training_job

    def full(*_: Any) -> None:
        raise OSError("no space left")

    studies = write_studies(tmp_path / "studies", 60)
    training = make_training(studies)
    with monkeypatch.context() as patch:
        patch.setattr(training_job, "start_process", full)
        with pytest.raises(OSError, match="no space left"):
            training.start(NAME, {"max_epochs": 1})
    assert training.state() is None
    assert make_training(studies).start(NAME, {"max_epochs": 5000})["status"] == "RUNNING"


def test_new_weights_are_judged_against_the_served_ones_on_the_same_images() -> None:
    from monai_diffclf.monailabel.train_process import judge_weights

    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    good = np.eye(3)[labels] + generator.uniform(0, 1.5, (60, 3))
    poor = np.eye(3)[labels] * 0.2 + generator.uniform(0, 1.5, (60, 3))
    groups = [f"P{n // 2}" for n in range(60)]
    found = judge_weights(labels, good, poor, groups)
    gain = found["new"]["value"] - found["served"]["value"]
    assert found["images"] == 60 and found["difference"]["value"] == pytest.approx(gain) and gain > 0
    assert found["difference"]["low"] < gain < found["difference"]["high"]
    assert judge_weights(labels, good, good, groups)["difference"] == {"value": 0, "low": 0, "high": 0}
