"""Training by LoRA, as Markdown: what comes of it, and what it costs."""

import statistics

from benchmarks.prose import filled, source_of


def study_table(record: dict | None) -> str:
    """RAD by LoRA beside RAD trained in full, on digits, as Markdown."""
    if record is None:
        return "Not measured yet (`python benchmarks/digits_lora.py`)."
    lines = [
        "| digits | parameters that train | box | extreme | Perlin |",
        "|---|---|---|---|---|",
    ]
    for name, run in record["runs"].items():
        rank = f", rank {run['lora_rank']}" if run["lora_rank"] else ""
        share = run["trainable"] / run["parameters"]
        trained = "" if name == "adm" else f"{run['trainable']:,} ({share:.0%})"
        cells = [
            f"{row['accuracy_inpainted']:.3f} / {row['hole_rmse']:.3f}"
            for row in run["masks"].values()
        ]
        lines.append(f"| {run['name']}{rank} | {trained} | {' | '.join(cells)} |")
    runs = record["runs"]
    text = (
        "Accuracy / error in the hole, measured as in the demo "
        f"({record['protocol']}); {runs['lora']['steps']} steps each, from an ADM of "
        f"{runs['adm']['steps']}, one seed. {source_of(record)}"
    )
    return "\n".join([*lines, "", filled(text)])


def adapters_table(record: dict | None) -> str:
    """Two ways to compute adapters in training, as Markdown."""
    if record is None:
        return "Not measured yet (`python benchmarks/lora.py`)."
    names = {
        "layers": "adapters as layers beside the frozen ones",
        "merged": "kernels merged in every step (what is built)",
        "full": "no adapters, all parameters",
    }
    cases = {name: rows for name, rows in record.items() if name != "measured"}
    lines = [
        f"| a gradient | {' | '.join(cases)} |",
        "|---" * (1 + len(cases)) + "|",
    ]
    for way, name in names.items():
        cells = [
            f"{rows[way]['over_full']:.2f}, "
            f"{rows[way]['mib_beside_the_parameters']:.0f} MiB"
            for rows in cases.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    text = (
        "Time over that of training in full, and memory beside the parameters (the "
        f"compiler's count, gradients included). {source_of(record)}"
    )
    return "\n".join([*lines, "", filled(text)])


def merged_text(record: dict | None) -> str:
    """Digits trained with adapters merged in every step and beside, as Markdown."""
    if record is None:
        return "Not measured yet (`python benchmarks/merged_adapters.py`)."
    rows = record["rows"]
    kinds = list(rows[0]["masks"])
    scores = ("accuracy", "psnr_hole", "frechet_classifier")
    columns = [f"{kind}: {score}" for kind in kinds for score in scores]
    lines = [
        f"| adapters | loss | {' | '.join(columns)} |",
        "|---" * (2 + len(columns)) + "|",
    ]
    for way in dict.fromkeys(row["way"] for row in rows):
        same = [row for row in rows if row["way"] == way]
        cells = [_range([row["loss"] for row in same], 4)]
        cells += [
            _range(
                [row["masks"][kind][score] for row in same], 2 + (score == scores[0])
            )
            for kind in kinds
            for score in scores
        ]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    seeds = len({row["seed"] for row in rows})
    pairs = {}
    for row in rows:
        pairs.setdefault(row["seed"], {})[row["way"]] = row["loss"]
    ratios = [x["merged"] / x["beside"] for x in pairs.values() if len(x) == 2]
    text = (
        f"Mean (least to most) of {seeds} seeds, {record['steps']} steps each; the "
        "loss over the second half of training, of a seed "
        f"{min(ratios):.4f} to {max(ratios):.4f} times that beside. "
        f"{source_of(record)}"
    )
    return "\n".join([*lines, "", filled(text)])


def _range(values: list[float], digits: int) -> str:
    mean = statistics.mean(values)
    least, most = min(values), max(values)
    return f"{mean:.{digits}f} ({least:.{digits}f} to {most:.{digits}f})"
