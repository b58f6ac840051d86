"""What the Hub reads of a model card: YAML between two lines of dashes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rad_jax.evaluate.report import groups
from rad_jax.evaluate.results import COLUMNS, Record, table_cells
from rad_jax.files.hub_address import is_hub, parse
from rad_jax.sharing.facts import LAMA, PLAIN, RAD, UPSAMPLER, Facts, text_of

LIBRARY = "rad-jax"
TAGS = ("image-inpainting", "inpainting", "jax", "flax")


def front_matter(facts: Facts) -> dict[str, Any]:
    """What the Hub reads of a card."""
    plain = ("diffusion", str(facts.record.get("architecture", "adm")))
    kinds = {RAD: ("diffusion", "rad"), PLAIN: plain, LAMA: ("lama",)}
    fills = facts.kind != UPSAMPLER
    head: dict[str, Any] = {"license": facts.license} if facts.license else {}
    head |= {
        "library_name": LIBRARY,
        "pipeline_tag": "image-to-image",
        "tags": [*(TAGS if fills else TAGS[2:]), *kinds.get(facts.kind, ())],
    }
    base = facts.training.get("pretrained")
    if isinstance(base, str) and is_hub(base):
        head["base_model"] = parse(base).repo
    if facts.evaluations:
        name = facts.repo.partition("/")[2]
        results = list(_index(facts.evaluations))
        head["model-index"] = [{"name": name, "results": results}]
    return head


def _index(evaluations: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """Results as the Hub's `model-index` has them, an entry for row and masks."""
    for records in groups(evaluations):
        settings = records[0]["settings"]
        data, split = text_of(settings.get("data")), text_of(settings.get("split"))
        for row, kinds in table_cells(records).items():
            for kind, cells in kinds.items():
                scores = {name: cells[name] for name in COLUMNS if name in cells}
                metrics = [
                    {"type": name, "value": cell.mean, "name": COLUMNS[name]}
                    for name, cell in scores.items()
                ]
                if not metrics:
                    continue
                task = f"Inpainting, {text_of(kind)} ({text_of(row)})"
                yield {
                    "task": {"type": "image-to-image", "name": task},
                    "dataset": {"type": data, "name": f"{data} {split}"},
                    "metrics": metrics,
                }


def yaml_lines(value: Any, indent: str = "") -> Iterator[str]:
    """Lines of YAML; all texts are quoted as in JSON, so that none means another."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, item in items:
        head = f"{indent}{key}:" if isinstance(value, Mapping) else f"{indent}-"
        if not isinstance(item, Mapping | list):
            yield f"{head} {json.dumps(item)}"
            continue
        lines = list(yaml_lines(item, f"{indent}  "))
        if isinstance(value, list):  # the first line stands behind the dash
            lines[0] = f"{head} {lines[0].lstrip()}"
        else:
            yield head
        yield from lines
