"""The model card: what a model is, how to use it, what it comes from, what it lacks.

A pure function of what is recorded. What nobody recorded is said to be so: nothing of
it is guessed.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rad_jax.checkpoints.model_record import FEW_STEPS
from rad_jax.evaluate.report import groups, markdown
from rad_jax.evaluate.results import table_cells
from rad_jax.files.hub_address import SCHEME
from rad_jax.sharing.facts import (
    LAMA,
    PLAIN,
    RAD,
    UPSAMPLER,
    Facts,
    block,
    data_of,
    text_of,
)
from rad_jax.sharing.front_matter import LIBRARY, front_matter, yaml_lines


def card(facts: Facts) -> str:
    """The text of a card."""
    name = facts.repo.partition("/")[2]
    sections = {
        "Use": _use(facts),
        "Training": _training(facts),
        "Architecture": _architecture(facts),
        "Evaluations": _evaluations(facts),
        "Limits": "\n".join(f"- {line}" for line in _limits(facts)),
        "Files": _files(facts),
    }
    parts = [f"# {name}", _what(facts)]
    parts += [f"## {title}\n\n{text}" for title, text in sections.items()]
    version = text_of(facts.record.get("rad_jax", "?"))
    parts.append(
        f"Written by {LIBRARY} from the model's record (of version {version})."
    )
    head = "".join(f"{line}\n" for line in yaml_lines(front_matter(facts)))
    return f"---\n{head}---\n\n" + "\n\n".join(parts) + "\n"


def _what(facts: Facts) -> str:
    size = facts.record["model"].get("image_size", 256)
    channels = facts.record["model"].get("out_channels", 3)
    of = f"pictures of {size}x{size} pixels, {'grey' if channels == 1 else 'colour'}"
    paper = "https://openaccess.thecvf.com/content/CVPR2025/html/"
    paper += "Kim_RAD_Region-Aware_Diffusion_Models_for_Image_Inpainting_CVPR_2025_"
    texts = {
        LAMA: f"A LaMa, trained on {of}: it fills holes of pictures in one pass.",
        UPSAMPLER: f"A diffusion model that enlarges pictures to {size}x{size} pixels.",
        RAD: "A region-aware diffusion model "
        f"([RAD]({paper}paper.html)) that fills holes of {of}.",
        PLAIN: f"A plain diffusion model ({facts.network}) of {of}. It knows one noise "
        "level for a whole picture: a network to train RAD from, to sample from, and "
        "for the methods that RAD is compared with.",
    }
    return f"{texts[facts.kind]} In the format of {LIBRARY} (JAX, Flax)."


def _use(facts: Facts) -> str:
    model = f"{SCHEME}{facts.repo}"
    label = facts.record["model"].get("num_classes") is not None
    install = f"pip install '{LIBRARY}[hub]'\n"
    pin = f"`{model}@COMMIT` stays what it is; without it, the newest is taken."
    if facts.kind == UPSAMPLER:
        more = " --classes 0" * label
        command = f"rad-jax sample --model {model} --low_res small --output large{more}"
        return f"```sh\n{install}{command}\n```\n\n{pin}"
    method = " --method repaint" * (facts.kind == PLAIN)
    command = f"rad-jax inpaint --model {model} --image photo.png --mask hole.png "
    command += f"--output filled.png{method}{' --label 0' * label}"
    lines = [
        "import rad_jax",
        "",
        f'inpainter = rad_jax.Inpainter.from_pretrained("{model}")',
        f'filled = inpainter("photo.png", "hole.png", seed=7{", label=0" * label})',
    ]
    text = f"```sh\n{install}{command}\n```\n\n"
    if facts.kind != PLAIN:  # which in Python takes a method and its settings
        text += "```python\n" + "\n".join(lines) + "\n```\n\n"
    return f"{text}White pixels of the mask are filled. {pin}"


def _training(facts: Facts) -> str:
    where = facts.provenance
    rest = {k: v for k, v in where.items() if k != "training" and v is not None}
    parts = []
    if "step" in rest:
        parts.append(
            f"The averaged parameters of step {text_of(rest['step'])} of a run of "
            f"{LIBRARY} on {data_of(facts)}."
        )
    elif "file" in rest:
        parts.append(
            f"Converted from `{text_of(rest['file'])}`, of another program. What it "
            "was trained on, and how, is said where that comes from."
        )
    elif not rest:
        parts.append("Where it comes from was not recorded.")
    if block(facts.training, "lora").get("rank"):
        parts.append("Its adapters (LoRA) are merged into the network.")
    if rest:
        parts.append(_table("origin", rest))
    if facts.training:
        parts.append(_table("config", facts.training))
    return "\n\n".join(parts)


def _architecture(facts: Facts) -> str:
    blocks = {
        name: facts.record[name] for name in ("schedule",) if name in facts.record
    }
    predicts = facts.record.get("parametrisation")
    if predicts is not None:
        blocks["parametrisation"] = predicts
    if FEW_STEPS in facts.record:
        blocks[FEW_STEPS] = facts.record[FEW_STEPS]
    named = {"network": facts.network} if "architecture" in facts.record else {}
    table = _table("architecture", {**named, **facts.record["model"], **blocks})
    return f"{facts.parameters[:1].upper()}{facts.parameters[1:]}.\n\n{table}"


def _evaluations(facts: Facts) -> str:
    if not facts.evaluations:
        return "None were given: how good this model is, is not said here."
    tables = [markdown(x, table_cells(x), {}) for x in groups(facts.evaluations)]
    machines = {x["hardware"]: None for x in facts.evaluations if "hardware" in x}
    if machines:
        tables.append(f"Seconds are of {', '.join(map(text_of, machines))}.")
    return "\n\n".join(tables)


def _limits(facts: Facts) -> Iterator[str]:
    config = facts.record["model"]
    size = config.get("image_size", 256)
    if facts.kind != UPSAMPLER:
        yield (
            f"It fills the kind of pictures that it was trained on ({data_of(facts)}); "
            "of other pictures it makes what it knows."
        )
    yield (
        "What it paints is made up. It is not what was there, and shows nothing of a "
        "person, a place or a document that the picture does not."
    )
    yield "It has the biases of its training data, which this card does not examine."
    if facts.kind in (RAD, PLAIN):
        yield (
            f"It works at {size}x{size} pixels: of a larger picture it sees a part at "
            "a time."
        )
    if facts.kind == LAMA:
        yield "It has one answer for a hole, and no others to choose from."
    if config.get("num_classes") is None:
        yield "It takes no text and no classes."
    if facts.evaluations:
        yield "Its scores hold for the images, masks and settings beside them."
    if facts.license:
        yield (
            f"The licence ({facts.license}) is what the author states of these "
            "weights; that of the training data may bind, too."
        )
    else:
        yield "No licence was given: without one nobody may use the weights."


def _files(facts: Facts) -> str:
    lines = ["`model.json` and `params/` are the model, as `rad-jax` reads it."]
    if facts.copy:
        lines.append(f"`model.safetensors` is a copy for other programs, {facts.copy}.")
    else:
        lines.append("There is no copy in safetensors.")
    return "\n".join(f"- {line}" for line in lines)


def _table(head: str, values: Mapping[str, Any]) -> str:
    lines = [f"| {head} | |", "|---|---|"]
    lines += [f"| {text_of(k)} | {text_of(v)} |" for k, v in _flat(values)]
    return "\n".join(lines)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value).strip('"')
