"""The model card: what it says of small models, word for word."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from rad_jax.checkpoints.model import Model
from rad_jax.checkpoints.model_record import record_of
from rad_jax.checkpoints.training_record import shared_name
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.models.ncsnpp_config import NCSNppConfig
from rad_jax.sharing.card import card
from rad_jax.sharing.facts import Facts
from rad_jax.sharing.front_matter import front_matter, yaml_lines
from tests.conftest import ROOT
from tests.evaluate.report_test import RESULT
from tests.sharing.small import lama, network, write

TRAINING = {
    "seed": 0,
    "pretrained": "hf://base/adm@v1",
    "data": {"name": "digits", "train_split": "train"},
    "lora": {"rank": 2, "targets": ["qkv"]},
}
RUN = {"run": "digits", "step": 10, "data": "digits", "training": TRAINING}


def facts(model=None, provenance=RUN, **changes: Any):
    record = record_of(model or network(), provenance) | {"rad_jax": "0.1.0"}
    given: dict[str, Any] = {
        "license": "mit",
        "copy": "2 arrays. Not in it: dropout 0.0",
    } | changes
    return Facts("owner/name", record=record, parameters="7 parameters", **given)


def read_by_hub(text: str) -> Any:
    return ModelCard(text).data


def test_word_for_word():
    """If it is meant to change: write what it is now to tests/golden/card.md."""
    golden = (ROOT / "tests" / "golden" / "card.md").read_text()
    measured = RESULT | {"hardware": "1 x TPU v5"}
    assert card(facts(evaluations=[measured])) == golden


def test_the_hub_reads_it():
    found = read_by_hub(card(facts(evaluations=[RESULT])))
    assert found.license == "mit" and found.library_name == "rad-jax"
    assert found.pipeline_tag == "image-to-image" and "inpainting" in found.tags
    assert found.base_model == "base/adm"
    results = {x.metric_type: x for x in found.eval_results}
    assert results.keys() == {"accuracy", "frechet_classifier", "seam_ratio"}
    accuracy = results["accuracy"]
    assert (accuracy.metric_value, accuracy.metric_name) == (0.9, "accuracy")
    assert (accuracy.dataset_type, accuracy.dataset_name) == ("digits", "digits test")
    assert accuracy.task_name == "Inpainting, box (RAD)"


def test_each_kind_says_what_it_is_and_how_it_is_used():
    plain = card(facts(network(known_steps=0, num_classes=3), {"file": "a.pt"}))
    assert "A plain diffusion model (ADM)" in plain and '"adm"' in plain
    assert "--method repaint --label 0" in plain and "```python" not in plain
    assert "Converted from `a.pt`, of another program." in plain
    assert "It takes no text and no classes" not in plain
    config = NCSNppConfig(16, 8, (1,), 1, ())
    score_based = Model(config, ScheduleConfig("ve", known_steps=0), "score", {})
    text = card(facts(score_based, {"file": "checkpoint_48.pth"}))
    assert "A plain diffusion model (NCSN++)" in text and "| network | NCSN++ |" in text
    assert '"adm"' not in text and "| schedule.kind | ve |" in text
    large = card(facts(network(in_channels=6, out_channels=3), {}))
    assert "A diffusion model that enlarges pictures" in large
    assert "rad-jax sample --model hf://owner/name --low_res small" in large
    assert '"inpainting"' not in large and "holes" not in large.split("## Limits")[0]
    one_pass = card(facts(lama(), {}))
    assert "A LaMa, trained on pictures of 16x16 pixels, colour" in one_pass
    assert "one answer for a hole" in one_pass and "schedule." not in one_pass


def test_a_distilled_model_says_its_times():
    text = card(facts(network()._replace(few_steps=(1000, 640, 360, 160))))
    assert "| few_steps | [1000, 640, 360, 160] |" in text
    assert "few_steps" not in card(facts())


def test_what_nobody_recorded_is_said_to_be_so():
    text = card(facts(provenance={}, license="", copy=""))
    assert "Where it comes from was not recorded." in text
    assert "(data that was not recorded)" in text
    assert "No licence was given" in text and "license:" not in text
    assert "how good this model is, is not said here" in text
    assert "There is no copy in safetensors." in text
    folder = card(facts(provenance={"step": 1, "data": "folder"}))
    assert "a folder of pictures that was not named" in folder


def test_rows_of_several_evaluations_are_entries_of_their_own():
    other = copy.deepcopy(RESULT) | {"name": "few steps"}
    more = copy.deepcopy(RESULT)
    more["settings"]["data"] = "photos"
    head = front_matter(facts(evaluations=[RESULT, other, more]))
    (index,) = head["model-index"]
    tasks = [x["task"]["name"] for x in index["results"]]
    assert tasks == [f"Inpainting, box ({x})" for x in ("RAD", "few steps", "RAD")]
    assert [x["dataset"]["type"] for x in index["results"]][-1] == "photos"
    text = card(facts(evaluations=[RESULT, other, more]))
    assert text.count("| box | ") == 2 and text.count(RESULT["protocol"]) == 2


@pytest.mark.parametrize(
    "value",
    [
        {"a": "no", "b": "1.0", "c": "x: y # z", "d": 'a"b\nc', "e": "ä", "f": 0.5},
        {"a": [{"b": [{"c": 1, "d": "---"}, {"c": 2}]}, {"b": ["x", "y"]}]},
    ],
)
def test_yaml_says_what_was_meant(value):
    assert yaml.safe_load("\n".join(yaml_lines(value))) == value


def test_what_is_recorded_cannot_break_out_of_its_place():
    evil = "a\n---\n| x | <script>alert(1)</script> [a](http://b) `"
    text = card(facts(provenance={"file": evil, evil: 1, "training": {evil: [evil]}}))
    assert "<script>" not in text.replace("\\<script", "") and "](http://b" not in text
    assert text.count("\n---\n") == 1  # the end of the front matter
    for wrong in ([], "x", {"training": []}, {"training": {"data": 1, "lora": "x"}}):
        record = {**facts().record, "provenance": wrong}
        assert "## Limits" in card(Facts("owner/name", "mit", record, "1 parameter"))


def test_places_of_this_machine_are_left_out():
    assert shared_name("/home/me/models/adm") == "adm"
    assert shared_name("gs://bucket/models/adm") == "adm"
    assert shared_name("hf://base/adm@v1") == "hf://base/adm@v1"


# Through the commands


@pytest.fixture
def evaluated(tmp_path, rad, digits_dir):
    """``evaluated("a", model)``: the folder of its evaluation on a few digits."""

    def run(name, model, *more):
        to = ("--output", tmp_path / name, "--data", "digits", "--data_dir", digits_dir)
        few = ("--num_images", 4, "--masks", "box", "--steps", 1, "--metrics", "pixels")
        assert rad("evaluate", "--model", model, *to, *few, *more)[0] == 0
        return tmp_path / name

    return run


def push(rad, model, output, *more):
    flags = ("--repo", "owner/name", "--license", "mit", "--output", output)
    return rad("push", "--model", model, *flags, *more)


def test_evaluations_are_pushed_with_their_protocol(rad, evaluated, tmp_path, quickly):
    model = write(tmp_path / "m")
    done = [evaluated("a", model), evaluated("b", model, "--dtype", "bfloat16")]
    code, _, err = push(rad, model, tmp_path / "out", "--evaluations", *done)
    assert (code, err) == (0, [])
    text = (tmp_path / "out" / "README.md").read_text()
    results = json.loads((done[0] / "results.json").read_text())
    assert results["protocol"].partition("; seed")[0] in text
    assert "4 images of digits test at 16x16" in text and "| box | PSNR" in text
    assert {x.metric_type for x in read_by_hub(text).eval_results} >= {"psnr_hole"}
    assert rad("info", "--card", tmp_path / "out") == (0, text, [])
    code, out, _ = rad("info", tmp_path / "out")
    assert code == 0 and out.endswith(f"\n\n{text}")


def test_evaluations_of_another_model_are_refused(rad, evaluated, tmp_path):
    model, other = write(tmp_path / "m"), write(tmp_path / "o", network(seed=1))
    done = evaluated("a", other)
    code, out, err = push(rad, model, tmp_path / "out", "--evaluations", done)
    assert (code, out) == (2, "") and not (tmp_path / "out").exists()
    assert err == [
        f"rad-jax: {done}: holds results (rad) of another model than {model}; give "
        "those of this one"
    ]
    code, _, (line,) = push(rad, model, tmp_path / "out", "--evaluations", tmp_path)
    assert code == 2 and "of another model" in line
    code, _, (line,) = push(rad, model, tmp_path / "out", "--evaluations", model)
    assert code == 2 and "holds no results.json; run rad-jax evaluate first" in line


def test_folders_of_the_machine_stay_out_of_the_card(rad, evaluated, tmp_path):
    model = write(tmp_path / "m")
    path = evaluated("a", model) / "results.json"
    record = json.loads(path.read_text())
    images = str(tmp_path / "faces")
    record["settings"]["data"] = images
    record["protocol"] = record["protocol"].replace("digits", images)
    record["fid_reference"] = str(tmp_path / "stats.npz")
    record["masks"]["box"]["fid"] = 3.0
    path.write_text(json.dumps(record))
    assert push(rad, model, tmp_path / "out", "--evaluations", path)[0] == 0
    text = (tmp_path / "out" / "README.md").read_text()
    assert "4 images of faces test" in text and "FID's reference: stats.npz." in text
    assert str(Path(tmp_path)) not in text


def test_a_draft_of_a_card(rad, tmp_path):
    model = write(tmp_path / "m")
    code, text, err = rad("info", "--card", model)
    assert (code, err) == (0, []) and "No licence was given" in text
    assert "--model hf://OWNER/m " in text
    code, _, (line,) = rad("info", "--card")
    assert code == 2 and line == "rad-jax: --card is of a model; give its folder"


@pytest.mark.slow
def test_a_draft_of_a_run(rad, tiny_run):
    workdir, _ = tiny_run
    code, text, err = rad("info", "--card", workdir)
    assert (code, err) == (0, []) and "averaged parameters of step 10" in text
    assert "| data.name | digits |" in text and str(workdir) not in text
