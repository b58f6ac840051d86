"""``rad-jax report``: from result files to tables and plots."""

import copy
import csv
import json
import sys

import numpy as np
import pytest
from PIL import Image

from rad_jax.evaluate.charts import figure
from rad_jax.evaluate.plots import evaluation_lines, seed_panels
from rad_jax.evaluate.results import read_results, table_cells


def interval(mean, low, high):
    return {"mean": mean, "low": low, "high": high, "images": 9}


RESULT = {
    "name": "RAD",
    "protocol": "9 images of digits test at 16x16; rad: ddpm",
    "settings": {
        "data": "digits",
        "split": "test",
        "num_images": 9,
        "image_size": 16,
        "seed": 0,
        "num_samples": 1,
    },
    "fid_reference": "the same images",
    "masks": {
        "box": {
            "accuracy": interval(0.9, 0.8, 0.95),
            "frechet_classifier": 12.5,
            "seam_ratio": 1.25,
            "seconds_per_image": 0.5,
        }
    },
}


@pytest.fixture
def write(tmp_path):
    """``write("a", name="RAD", ...)`` writes tmp_path/a/results.json."""

    def write(folder, scores=(), settings=(), **changes):
        record = copy.deepcopy(RESULT) | changes
        record["masks"]["box"] |= dict(scores)
        record["settings"] |= dict(settings)
        path = tmp_path / folder / "results.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(record))
        return path

    return write


def test_protocols_that_differ_name_their_results(write, tmp_path, rad):
    write("runs/a")
    write("runs/b", name="more", scores={"fid": 3.5})
    write("runs/c", name="other", protocol="9 images, otherwise")
    rad("report", tmp_path / "runs", "--output", tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "- RAD; more: 9 images of digits test at 16x16; rad: ddpm\n" in text
    assert "- other: 9 images, otherwise\n" in text
    assert "FID's reference: the same images." in text


def test_tables_and_plot(write, tmp_path, rad):
    write("runs/a")
    write("runs/b", name="slow", scores={"seconds_per_image": 2.0})
    output = tmp_path / "report"
    code, out, _ = rad("report", tmp_path / "runs", "--output", output)
    assert code == 0
    text = (output / "report.md").read_text()
    assert text.strip() in out
    head, _, *rows = text.splitlines()
    scores = "Frechet (classifier) ↓ | accuracy ↑ | seam (1 is best)"
    assert head == f"| box | {scores} | seconds |"
    assert rows[0] == "| RAD | 12.5 | 0.9 [0.8, 0.95] | 1.25 | 0.5 |"
    assert rows[1].startswith("| slow | 12.5 |")
    assert "95% intervals over images" in text
    assert text.count("9 images of digits test") == 1  # of both, it is the same
    assert "FID" not in text
    with (output / "report.csv").open() as file:
        found = list(csv.DictReader(file))
    accuracy = [row for row in found if row["score"] == "accuracy"]
    assert [row["name"] for row in accuracy] == ["RAD", "slow"]
    assert accuracy[0]["low"] == "0.8" and accuracy[0]["masks"] == "box"
    with Image.open(output / "quality.png") as picture:
        colours = {c for _, c in picture.convert("RGB").getcolors(2**24) or ()}
    assert {(0, 0x72, 0xB2), (0xE6, 0x9F, 0)} <= colours  # both points


def test_training_seeds_are_put_together(write):
    paths = [
        write(f"seed{i}", scores={"accuracy": interval(mean, 0, 1)})
        for i, mean in enumerate((0.7, 0.9, 0.8))
    ]
    cell = table_cells(read_results(paths))["RAD"]["box"]["accuracy"]
    assert str(cell) == "0.8 [0.7, 0.9]" and cell.count == 3


def test_a_row_for_each_name_over_its_seeds(write, tmp_path, rad):
    for name, distances in (("RAD", (2, 1, 3)), ("other", (5,))):
        for i, distance in enumerate(distances):
            write(f"{name}{i}", name=name, scores={"frechet_classifier": distance})
    (panel,) = seed_panels(table_cells(read_results([tmp_path])))
    assert (panel.title, panel.x_name) == ("box", "Frechet (classifier)")
    assert panel.in_rows
    assert [(s.name, s.points) for s in panel.series] == [
        ("RAD", [(1, 0), (2, 0), (3, 0)]),
        ("other", [(5, 1)]),
    ]
    output = tmp_path / "report"
    assert rad("report", tmp_path, "--output", output)[0] == 0
    assert "](seeds.png)" in (output / "report.md").read_text()
    with Image.open(output / "seeds.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    upper, lower = (
        np.nonzero((abs(pixels - colour).max(axis=-1) < 8).any(axis=1))[0].mean()
        for colour in ((0, 0x72, 0xB2), (0xE6, 0x9F, 0))
    )
    assert lower - upper > len(pixels) / 4  # two rows share the frame's height
    (axes,) = figure([panel]).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["RAD", "other"]
    assert axes.get_ylim() == (1.5, -0.5) and axes.get_xscale() == "log"


def test_one_seed_has_no_such_plot(write, tmp_path, rad):
    assert rad("report", write("a"), "--output", tmp_path / "report")[0] == 0
    assert not (tmp_path / "report" / "seeds.png").exists()


def test_other_images_have_a_table_of_their_own(write, tmp_path, rad):
    paths = [write("a"), write("b", settings={"num_images": 8})]
    output = tmp_path / "report"
    assert rad("report", *paths, "--output", output)[0] == 0
    assert (output / "report.md").read_text().count("| box |") == 2
    assert (output / "quality1.png").exists()


def test_the_papers_numbers(write, tmp_path, rad):
    """Beside 1000 images of the same set; its FID only beside one with a reference."""
    settings = {"data": "ffhq256", "num_images": 1000, "image_size": 256}
    scores = {"fid": 20.5, "lpips_alex_unscaled": interval(0.08, 0.07, 0.09)}
    path = write("a", scores=scores, settings=settings)
    output = tmp_path / "report"
    assert rad("report", path, "--output", output)[0] == 0
    text = (output / "report.md").read_text()
    assert "| *RAD (paper)* |  | 0.074 |" in text and "22.1" not in text
    other = write(
        "b", scores=scores, settings=settings, fid_reference="ffhq.npz", name="x"
    )
    assert rad("report", other, "--output", output)[0] == 0
    text = (output / "report.md").read_text()
    assert "| *RAD (paper)* | 22.1 | 0.074 |" in text
    assert "| *LaMa (paper)* | 27.7 | 0.086 |" in text
    fewer = write("c", scores=scores, settings=settings | {"num_images": 999})
    assert rad("report", fewer, "--output", output)[0] == 0
    assert "paper" not in (output / "report.md").read_text()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"name": "x"}', "no JSON", json.dumps(RESULT | {"masks": 3})],
)
def test_files_of_something_else(tmp_path, rad, content):
    path = tmp_path / "results.json"
    path.write_text(content)
    code, _, err = rad("report", path, "--output", tmp_path / "report")
    assert code == 2 and len(err) == 1
    assert f"{path}: is no result of rad-jax evaluate, or is damaged" in err[0]
    assert not (tmp_path / "report").exists()


def test_a_score_that_is_not_finite(write, tmp_path, rad):
    path = write("a", scores={"frechet_classifier": float("nan")})
    code, _, err = rad("report", path, "--output", tmp_path / "report")
    assert code == 2 and "is damaged" in err[0]


def test_folders_without_results(tmp_path, rad):
    code, _, err = rad("report", tmp_path, "--output", tmp_path / "report")
    assert code == 2 and f"{tmp_path}: holds no results.json" in err[0]


def test_a_report_needs_matplotlib(write, tmp_path, rad, monkeypatch):
    """It says so before it writes anything."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = rad("report", write("a"), "--output", tmp_path / "report")
    assert code == 2
    assert err == ["rad-jax: charts need Matplotlib; pip install 'rad-jax[report]'"]
    assert not (tmp_path / "report").exists()


def test_the_same_results_give_the_same_bytes(write, tmp_path, rad):
    path = write("a")
    for name in ("one", "two"):
        assert rad("report", path, "--output", tmp_path / name)[0] == 0
    one, two = (tmp_path / name / "quality.png" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_quality_against_evaluations_is_a_line_for_each_name(write, tmp_path, rad):
    """Backward evaluations count, too; the ranges are those over seeds."""
    told = [("RAD", 10, 0, 4.0), ("RAD", 20, 0, 2.0), ("MCG", 10, 10, 3.0)]
    for name, forward, backward, distance in told:
        for seed in (0, 1):
            scores = {
                "frechet_classifier": distance + seed,
                "forward_evaluations": float(forward),
                "backward_evaluations": float(backward),
                "seconds_per_image": None,
            }
            write(
                f"{name}{forward}_{seed}",
                name=name,
                scores=scores,
                settings={"seed": seed},
                protocol=f"9 digits; {forward} steps; seed {seed}; 8-bit pictures",
            )
    records = read_results([tmp_path])
    (panel,), legend = evaluation_lines(records, "frechet_classifier")
    assert list(legend) == ["MCG", "RAD"] and len(set(legend.values())) == 2
    mcg, line = panel.series
    assert list(mcg.points) == [(20, 3.5)] and list(line.points) == [
        (10, 4.5),
        (20, 2.5),
    ]
    assert list(line.ranges) == [(4.0, 5.0), (2.0, 3.0)]
    assert (line.colour, line.marker) == legend["RAD"]
    assert not evaluation_lines(records, "energy_hole").panels
    assert not evaluation_lines(records[:2], "frechet_classifier").panels  # one number
    output = tmp_path / "report"
    assert rad("report", tmp_path, "--output", output)[0] == 0
    text = (output / "report.md").read_text()
    assert "| RAD, 10 | 4.5 [4, 5] |" in text and "| MCG | 3.5 [3, 4] |" in text
    assert "- RAD, 20: 9 digits; 20 steps; seeds 0, 1; 8-bit pictures" in text
    assert "](evaluations_frechet_classifier.png)" in text
    assert "seeds.png" not in text  # the lines have the ranges
    chart = figure([panel], lines=legend)
    names = [label.get_text() for label in chart.legends[0].get_texts()]
    assert names == ["MCG", "RAD"]
    (axes,) = chart.axes
    drawn = [np.asarray(line.get_xydata()).tolist() for line in axes.lines]
    assert [[20.0, 2.0], [20.0, 3.0]] in drawn  # a range


def test_the_papers_seconds(write, tmp_path, rad):
    settings = {"data": "ffhq256", "num_images": 1000, "image_size": 256}
    scores = {"lpips_alex_unscaled": interval(0.08, 0.07, 0.09)}
    path = write("a", scores=scores, settings=settings)
    output = tmp_path / "report"
    assert rad("report", path, "--output", output)[0] == 0
    lines = (output / "report.md").read_text().splitlines()
    [head] = [line for line in lines if line.startswith("| box")]
    assert head.endswith("| seconds |")
    [repaint] = [line for line in lines if line.startswith("| *RePaint (paper)*")]
    assert repaint.endswith("| 837.136 |")
    [lama] = [line for line in lines if line.startswith("| *LaMa (paper)*")]
    assert lama.endswith("|  |")  # Table 2 has none
