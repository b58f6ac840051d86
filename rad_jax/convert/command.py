"""``rad-jax convert``: a file of another program to a model folder, and back."""

from pathlib import Path

from rad_jax.checkpoints.load import is_model_folder, load, read_folder
from rad_jax.checkpoints.model import AnyModel, LamaModel
from rad_jax.checkpoints.model_folder import check_free, write_model
from rad_jax.convert import peft
from rad_jax.convert.choices import Choices
from rad_jax.convert.diffusers_folder import unet_folder
from rad_jax.convert.finite import FiniteCheck
from rad_jax.convert.from_file import ENTRIES, Job, convert_diffusers, convert_file
from rad_jax.convert.infer import DIFFUSERS, OPENAI, RAD
from rad_jax.convert.lama import LAMA
from rad_jax.convert.presets import choices_of
from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath, in_bucket
from rad_jax.weight_files import name_table
from rad_jax.weight_files.write import write_safetensors, write_torch

FORMATS = ("torch", "safetensors", "diffusers")
"""What a model can be written as: its own layout as .pt or .safetensors, or diffusers'
layout as .safetensors."""

ADAPTERS = "adapters"
"""What a training run's adapters are written as: a folder of PEFT's."""


def convert(
    source: AnyPath,
    output: Path,
    *,
    preset: str | None = None,
    choices: Choices | None = None,
    key: str | None = None,
    to: str | None = None,
    base: Path | None = None,
    allow_nonfinite: bool = False,
    overwrite: bool = False,
) -> None:
    """Makes a model folder of a file of weights or a training run, or a file of either.

    Adapters go apart from their base and back as well.

    From a file to a folder and back is the identity, bit for bit, for files of float32.
    Weights are held in memory once. What was found, and what comes from where, is
    printed.

    Args:
      source: file of an ADM in the layout of guided-diffusion or diffusers, or of a
        LaMa (see `read_network`), folder of diffusers, workdir of a training run (its
        averaged parameters), with `to` a model folder, or with `base` a folder of
        adapters.
      output: the new model folder, or with `to` the new file.
      preset: of a file: name in `presets.PRESETS` that says what shapes do not tell.
      choices: of a file: the same by hand, instead of a preset or before it.
      key: of a file: where in it the weights are, dotted; or a prefix of their keys.
      to: one of `FORMATS`, or `ADAPTERS` of a training run.
      base: folder of the model that adapters are merged into.
      allow_nonfinite: take weights that are NaN or infinite as they are.
      overwrite: replace the output, if that is what would be written: a model folder,
        a folder of adapters, or with `to` a file.

    Raises:
      UserError: anything does not fit, is damaged, or cannot be written.
    """
    choices = choices or Choices()
    if to is not None and to not in (*FORMATS, ADAPTERS):
        raise UserError(f"--to is {to!r}; use one of {', '.join(FORMATS)}, {ADAPTERS}")
    if source.is_file():
        file = _checked_file(source, to, base)
        convert_file(
            Job(file, output, choices, preset, key, allow_nonfinite, overwrite)
        )
        return
    if not source.is_dir():
        raise UserError(f"{source}: no such file or folder; check the name")
    if unet_folder(source) is not None:
        folder = _checked_diffusers(source, to, base)
        convert_diffusers(
            Job(folder, output, choices, preset, key, allow_nonfinite, overwrite)
        )
        return
    _check_flags(preset, choices, key)
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


def _checked_file(source: AnyPath, to: str | None, base: Path | None) -> Path:
    """The file; refuses one in a bucket, and flags that are for folders."""
    if in_bucket(source):
        raise UserError(f"{source}: is a file in a bucket; copy it here first")
    if to is not None:
        raise UserError(f"{source}: is a file; --to is for the folder of a model")
    if base is not None:
        raise UserError(f"{source}: is a file; --base is for a folder of adapters")
    return source


def _checked_diffusers(source: AnyPath, to: str | None, base: Path | None) -> Path:
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


def _check_flags(preset: str | None, choices: Choices, key: str | None) -> None:
    """Refuses flags that are for files."""
    given = {"preset": preset, "key": key, **choices.made()}
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
    adapters: Path, base: Path, folder: Path, overwrite: bool, check: FiniteCheck
) -> None:
    check_free(folder, overwrite=overwrite)
    model = peft.with_adapters(load(base), adapters)
    check.look_at_params(adapters, model.params)
    # Names alone: a model is passed on, the folders that it was made in are not.
    names = {"base": base.resolve().name, "adapters": adapters.resolve().name}
    write_model(folder, model, names, overwrite=overwrite)
    print(f"rad-jax: the model is {folder}")


def _to_file(
    folder: AnyPath, path: Path, to: str, overwrite: bool, check: FiniteCheck
) -> None:
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists; choose another output or --overwrite")
    model, provenance = read_folder(folder)
    # What came in RAD's layout goes back to it.
    if isinstance(model, LamaModel):
        if to == "diffusers":
            raise UserError(f"{folder}: is a LaMa, of which there is no such layout")
        count = _write_file(model, LAMA, folder, path, to, check)
        print(f"rad-jax: {count} arrays in the layout of {LAMA}: {path}")
        return
    layout = DIFFUSERS if to == "diffusers" else OPENAI
    if to == "diffusers" and provenance.get("layout") == RAD:
        layout = RAD
    count = _write_file(model, layout, folder, path, to, check)
    unstored = choices_of(model.config, model.schedule.kind).made()
    text = ", ".join(f"{name} {value}" for name, value in unstored.items())
    if model.config.noise_embedding != "spatial":
        text += f", noise embedding {model.config.noise_embedding}"
    print(f"not in the file: {text}, prediction {model.parametrisation}")
    print(f"rad-jax: {count} arrays in the layout of {layout}: {path}")


def _write_file(
    model: AnyModel,
    layout: str,
    folder: AnyPath,
    path: Path,
    to: str,
    check: FiniteCheck,
) -> int:
    """Writes a file in a layout, of so many arrays; ``folder`` is the model's."""
    entries = ENTRIES[layout](model.config)
    state = name_table.write(entries, model.abstract_params(), model.params)
    check.look_at_all(folder, state)
    write = write_torch if to == "torch" else write_safetensors
    write(path, state)
    return len(state)
