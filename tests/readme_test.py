"""The documents' numbers are those of code and stored results, their files exist."""

import json
import pathlib
import re

from benchmarks import solver_tables, update_docs
from rad_jax.convert.presets import PRESETS

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_numbers_are_those_that_are_stored():
    """If not: python benchmarks/update_docs.py."""
    for path, text in update_docs.documents().items():
        assert path.read_text() == text, path
    record = json.loads(update_docs.DEMO.read_text())
    number = record["masks"]["box"]["accuracy_inpainted"]
    assert f"{number:.3f}" in DOCUMENTS[0].read_text()


def test_what_is_said_of_checkpoints_and_of_a_conversion():
    table = update_docs.presets_table(PRESETS)
    assert (
        "| `64x64_diffusion.pt` | `imagenet64_cond` | 64 | 64 channels each | new | "
        "cosine | 1000 | 0.1 |"
    ) in table
    assert "| `64_256_upsampler.pt` | `upsampler_64_256` | 256 | 4 | old |" in table
    side = {"seconds": 12.3, "peak_over_file": 1.257}
    text = update_docs.convert_text(
        {
            "file_to_folder": side,
            "folder_to_file": {"seconds": 4.5, "peak_over_file": 1.1},
            "preset": "imagenet256_cond",
            "parameters": 553838086,
            "file_mib": 2112.8,
            "measured": {
                "command": "python benchmarks/convert.py",
                "hardware": "2 CPU cores (A)",
                "date": "2026-11-22",
            },
        }
    )
    assert max(map(len, text.splitlines())) <= 120
    text = " ".join(text.split())
    assert "553,838,086 parameters, 2.06 GiB" in text and "12 s to a model" in text
    assert "1.26 and 1.10 times" in text and "2 CPU cores (A), 2026-11-22" in text
    assert "Not measured yet" in update_docs.convert_text(None)


def test_what_is_said_of_solvers():
    """Made-up numbers: what is better, told apart, not tried, and as good."""

    def rows(sampler, steps, error, score, behind):
        key = {"sampler": sampler, "grid": "uniform", "steps": steps}
        mask = {"accuracy_inpainted": 0.9, "hole_rmse": 0.2, "diversity": 0.1}
        difference = {"mean": behind, "standard_error": 0.002}
        digits = {
            "masks": {"box": mask, "perlin": mask | {"diversity": 0.3}},
            "energy_score": score,
            "behind": difference,
            "behind_default": difference,
        }
        return key, key | {"error": error}, key | digits

    every = quick, near, far, default = (
        rows("DDIM", 5, 0.3, 0.08, 0.002),
        rows("DDIM", 10, 0.012, 0.071, 0.003),
        rows("DDIM", 20, 0.009, 0.072, 0.0045),
        rows("DDIM", 100, 0.0136, 0.07, 0.0),
    )
    gaussian = [row for _, row, _ in every]
    record = {
        "oracle": {"rows": gaussian + [x | {"grid": "log_snr"} for x in gaussian]},
        "digits": {"images": 9, "samples": 2, "rows": [row for _, _, row in every]},
        "default": default[0],
        "recommended": [quick[0], near[0]],
        "measured": {"command": "python x.py", "hardware": "A", "date": "2026-11-23"},
    }
    text = " ".join(solver_tables.solvers_text(record).split())
    assert "| DDIM | `uniform` | 30.0% / 0.0800 | 1.2% / 0.0710 |" in text
    assert "| DDIM | `log_snr` | 30.0% | 1.2% |" in text  # not tried on digits
    assert (
        "| 10 | DDIM | `uniform` | 1.2% | 0.0710 | 0.0030 ± 0.0020 | 0.900 | 0.200 | "
        "0.200 |"
    ) in text
    assert "about 0.004, two standard errors" in text
    assert "Of these, 10 steps are the fewest" in text and "`python x.py` on A" in text
    record["recommended"] = [quick[0], far[0]]
    text = " ".join(solver_tables.solvers_text(record).split())
    assert "none of these is as good" in text
    assert "Not measured yet" in solver_tables.solvers_text(None)


def test_links_lead_somewhere():
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if not link.startswith("http"):
                assert (document.parent / link).exists(), f"{document}: {link}"
