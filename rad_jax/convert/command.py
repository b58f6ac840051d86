"""``rad-jax convert``: a file of another program to a model folder, and back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rad_jax.checkpoints.hub import model_at
from rad_jax.checkpoints.load import is_model_folder, load, read_folder
from rad_jax.checkpoints.model import AnyModel, LamaModel, Model
from rad_jax.checkpoints.model_folder import check_free, write_model
from rad_jax.checkpoints.training_record import shared_name
from rad_jax.convert import from_score_sde, peft
from rad_jax.convert.choices import Choices
from rad_jax.convert.diffusers_folder import unet_folder
from rad_jax.convert.finite import FiniteCheck
from rad_jax.convert.from_file import ENTRIES, convert_diffusers, convert_file
from rad_jax.convert.infer import DIFFUSERS, OPENAI, RAD
from rad_jax.convert.lama import LAMA
from rad_jax.convert.latent_folder import convert_latent_folder, is_latent
from rad_jax.convert.parts import Job
from rad_jax.convert.presets import choices_of
from rad_jax.convert.write_folder import write_folder
from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath, in_bucket
from rad_jax.files.hub_address import is_hub
from rad_jax.models.config import UNetConfig
from rad_jax.models.ncsnpp_config import NCSNppConfig
from rad_jax.weight_files import name_table
from rad_jax.weight_files.write import write_safetensors, write_torch

FORMATS = ("torch", "safetensors", "diffusers")
"""What a model can be written as: its own layout as .pt or .safetensors, or diffusers'
layout as .safetensors."""

ADAPTERS = "adapters"
"""What a training run's adapters are written as: a folder of PEFT's."""


def convert(
    source: str | AnyPath,
    output: Path,
    *,
    preset: str | None = None,
    choices: Choices | None = None,
    key: str | None = None,
    to: str | None = None,
    base: str | AnyPath | None = None,
    tokenizer: Path | None = None,
    allow_nonfinite: bool = False,
    overwrite: bool = False,
) -> None:
    """Makes a model folder of a file of weights or a training run, or a file of either.

    Adapters go apart from their base and back as well.

    From a file to a folder and back is the identity, bit for bit, for files of float32.
    Weights are held in memory once. What was found, and what comes from where, is
    printed.

    Args:
      source: file of an ADM in the layout of guided-diffusion or diffusers, of
        score_sde, or of a LaMa (see `read_network`), folder of diffusers, workdir of a
        training run (its averaged parameters), with `to` a model folder, or with
        `base` a folder of adapters. A model folder may be one of the Hub,
        hf://owner/name@revision.
      output: the new model folder, or with `to` the new file.
      preset: of a file: name in `presets.PRESETS` or `sde_presets.SDE_PRESETS` that
        says what shapes do not tell.
      choices: of a file: the same by hand, instead of a preset or before it.
      key: of a file: where in it the weights are, dotted; or a prefix of their keys.
      to: one of `FORMATS`, or `ADAPTERS` of a training run.
      base: folder of the model that adapters are merged into.
      tokenizer: of a file of Stable Diffusion: folder of the vocabulary, which it has
        not.
      allow_nonfinite: take weights that are NaN or infinite as they are.
      overwrite: replace the output, if that is what would be written: a model folder,
        a folder of adapters, or with `to` a file.

    Raises:
      UserError: anything does not fit, is damaged, or cannot be written.
    """
    choices = choices or Choices()
    if to is not None and to not in (*FORMATS, ADAPTERS):
        raise UserError(f"--to is {to!r}; use one of {', '.join(FORMATS)}, {ADAPTERS}")
    source, others = model_at(source), (allow_nonfinite, overwrite)
    if source.is_file():
        file = _checked_file(source, to, base)
        convert_file(Job(file, output, choices, preset, key, tokenizer, *others))
        return
    if not source.is_dir():
        raise UserError(f"{source}: no such file or folder; check the name")
    latent = is_latent(source)
    if latent or unet_folder(source) is not None:
        folder = _checked_diffusers(source, to, base)
        job = Job(folder, output, choices, preset, key, tokenizer, *others)
        (convert_latent_folder if latent else convert_diffusers)(job)
        return
    _check_flags(preset, choices, key, tokenizer)
    check = FiniteCheck(allow_nonfinite)
    if base is not None:
        _merge(_checked_adapters(source, to), base, output, overwrite, check)
    elif (source / peft.RECORD).is_file():
        raise UserError(f"{source}: holds adapters; give their model as --base")
    elif to == ADAPTERS:
        size = peft.write_adapters(source, output, overwrite=overwrite, check=check)
        print(f"rad-jax: the adapters, {size / 1e6:.1f} MB, are {output}")
    elif to is not None:
        _to_file(source, output, to, overwrite, check)
    elif is_model_folder(source):
        raise UserError(
            f"{source}: is a model folder already; --to {'|'.join(FORMATS)} writes a "
            "file of it"
        )
    else:
        _run_to_folder(source, output, overwrite, check)
    check.report()


def _checked_file(source: AnyPath, to: str | None, base: str | AnyPath | None) -> Path:
    """The file; refuses one in a bucket, and flags that are for folders."""
    if in_bucket(source):
        raise UserError(f"{source}: is a file in a bucket; copy it here first")
    if to is not None:
        raise UserError(f"{source}: is a file; --to is for the folder of a model")
    if base is not None:
        raise UserError(f"{source}: is a file; --base is for a folder of adapters")
    return source


def _checked_diffusers(
    source: AnyPath, to: str | None, base: str | AnyPath | None
) -> Path:
    """The same of a folder of diffusers."""
    if in_bucket(source):
        raise UserError(f"{source}: lies in a bucket; copy the folder here first")
    for name, value in (("to", to), ("base", base)):
        if value is not None:
            raise UserError(
                f"{source}: is a folder of diffusers; --{name} is for a folder of "
                "rad_jax"
            )
    return source


def _check_flags(
    preset: str | None, choices: Choices, key: str | None, tokenizer: Path | None
) -> None:
    """Refuses flags that are for files."""
    given = {"preset": preset, "key": key, "tokenizer": tokenizer, **choices.made()}
    for name, value in given.items():
        if value is not None:
            raise UserError(f"--{name} has no use with a folder, which records it")


def _checked_adapters(source: AnyPath, to: str | None) -> Path:
    """The folder of adapters to merge; refuses one in a bucket, and --to."""
    if to is not None:
        raise UserError("--base and --to do not go together: convert twice")
    if in_bucket(source):
        raise UserError(f"{source}: lies in a bucket; copy the adapters here first")
    return source


def _run_to_folder(
    workdir: AnyPath, folder: AnyPath, overwrite: bool, check: FiniteCheck
) -> None:
    check_free(folder, overwrite=overwrite)
    # The optimiser's state stays behind: a model folder is for inference.
    model, provenance = read_folder(workdir)
    check.look_at_params(workdir, model.params)
    write_model(folder, model, provenance, overwrite=overwrite)
    step = provenance["step"]
    print(f"rad-jax: the averaged parameters of step {step} are the model {folder}")


def _merge(
    adapters: Path,
    base: str | AnyPath,
    folder: Path,
    overwrite: bool,
    check: FiniteCheck,
) -> None:
    check_free(folder, overwrite=overwrite)
    model = peft.with_adapters(load(base), adapters)
    check.look_at_params(adapters, model.params)
    # Names alone: a model is passed on, the folders that it was made in are not.
    at = str(base if is_hub(base) else model_at(base).resolve())
    names = {"base": shared_name(at), "adapters": adapters.resolve().name}
    write_model(folder, model, names, overwrite=overwrite)
    print(f"rad-jax: the model is {folder}")


def _to_file(
    folder: AnyPath, path: Path, to: str, overwrite: bool, check: FiniteCheck
) -> None:
    if not path.is_dir():
        if path.exists() and not overwrite:
            raise UserError(f"{path}: exists; choose another output or --overwrite")
    elif to != "diffusers":
        raise UserError(f"{path}: is a folder; give the name of a file")
    model, provenance = read_folder(folder)
    if to == "diffusers" and isinstance(model, Model) and model.codec:
        write_folder(model, provenance, folder, path, check, overwrite=overwrite)
        return
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the name of a file")
    written = write_file(model, provenance, folder, path, to, check)
    if written.unstored:
        print(f"not in the file: {written.unstored}")
    print(f"rad-jax: {written.arrays} arrays in the layout of {written.layout}: {path}")


class Written(NamedTuple):
    """A file of a model's weights.

    Attributes:
      arrays: how many it holds.
      layout: whose names they have.
      unstored: what else the network is, which such a file does not say.
    """

    arrays: int
    layout: str
    unstored: str


def write_file(
    model: AnyModel,
    provenance: Mapping[str, Any],
    folder: AnyPath,
    path: Path,
    to: str,
    check: FiniteCheck,
) -> Written:
    """Writes a file of a model.

    Args:
      model: the model.
      provenance: where it comes from.
      folder: its folder, for messages.
      path: the file; one that exists is replaced.
      to: one of `FORMATS`.
      check: of its numbers.

    Raises:
      UserError: there is no such layout of it, numbers are not finite, or the file
        cannot be written.
    """
    layout, unstored = LAMA, ""
    if isinstance(model, LamaModel):
        if to == "diffusers":
            raise UserError(f"{folder}: is a LaMa, of which there is no such layout")
    elif model.codec:
        raise UserError(
            f"{folder}: is of a base in latents, which is no single network: it is "
            "written as a folder, by --to diffusers"
        )
    elif isinstance(model.config, NCSNppConfig):
        layout = from_score_sde.TORCH
        if to == "diffusers":
            raise UserError(
                f"{folder}: is of score_sde's architecture, of which there is no such "
                "layout; use torch or safetensors"
            )
        unstored = (
            f"process {model.schedule.kind}, prediction {model.parametrisation}, and "
            "the table sigmas"
        )
    else:
        assert isinstance(model.config, UNetConfig)  # the other has a codec
        layout = DIFFUSERS if to == "diffusers" else OPENAI
        # What came in RAD's layout goes back to it.
        if to == "diffusers" and provenance.get("layout") == RAD:
            layout = RAD
        made = choices_of(model.config, model.schedule).made()
        told = [f"{name} {value}" for name, value in made.items()]
        if model.config.noise_embedding != "spatial":
            told.append(f"noise embedding {model.config.noise_embedding}")
        unstored = ", ".join([*told, f"prediction {model.parametrisation}"])
    if not isinstance(model, LamaModel) and model.few_steps:
        unstored += f", distilled for times {' '.join(map(str, model.few_steps))}"
    entries = ENTRIES[layout](model.config)
    state = name_table.write(entries, model.abstract_params(), model.params)
    check.look_at_all(folder, state)
    write = write_torch if to == "torch" else write_safetensors
    write(path, state)
    return Written(len(state), layout, unstored)
