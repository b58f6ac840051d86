"""The README's numbers are those of the stored results, and its files exist."""

import json
import pathlib
import re

from benchmarks import update_readme

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_demo_table_is_the_stored_one():
    """If not: python benchmarks/update_readme.py."""
    record = json.loads(update_readme.STORED.read_text())
    assert update_readme.write_readme(README, record) == README
    assert f"{record['masks']['box']['accuracy_inpainted']:.3f}" in README


def test_links_lead_somewhere():
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if not link.startswith("http"):
                assert (document.parent / link).exists(), f"{document}: {link}"
