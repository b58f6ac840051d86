"""A model as a folder: `model.json`, and its parameters in `params/` (Orbax).

Of a base in latents those of its autoencoder are in `codec/`; of one that is told texts
those of their encoder in `text/`, and the vocabulary in `tokenizer/`.

It holds what inference and fine-tuning need, and nothing of a training run.
"""

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict

from rad_jax.checkpoints import model_record
from rad_jax.checkpoints.checkpoints import WRITE_ERRORS
from rad_jax.checkpoints.damage import Damaged, short_reason, sorted_out
from rad_jax.checkpoints.model import (
    PARTS,
    AnyModel,
    Model,
    parts,
    require_diffusion,
    with_params,
)
from rad_jax.checkpoints.orbax_path import orbax_path
from rad_jax.errors import UserError
from rad_jax.files.atomic import atomic_folder
from rad_jax.files.bucket import AnyPath
from rad_jax.text.tokenizer_files import read_tokenizer, write_tokenizer

RECORD = "model.json"
PARAMS = "params"
TOKENIZER = "tokenizer"
FOLDERS = (PARAMS, *PARTS, TOKENIZER)
"""Beside the record; some models have all of them."""

KIND = "model folder"
GROUP_BYTES = 2**27
AS_NUMPY = ocp.RestoreArgs(restore_type=np.ndarray)
FIX_HINT = "convert the model again"


def check_free(folder: AnyPath, *, overwrite: bool) -> None:
    """`model_record.check_free` of a model folder, and `orbax_path`'s check."""
    orbax_path(folder, write=True)
    model_record.check_free(
        folder,
        overwrite=overwrite,
        kind=KIND,
        record=RECORD,
        others=FOLDERS,
    )


def write_model(
    folder: AnyPath,
    model: AnyModel,
    provenance: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Writes a model folder whole or not at all.

    Args:
      folder: the new folder.
      model: its parameters are kept in their types; NumPy arrays are not copied.
      provenance: what else to record of where it comes from, as JSON.
      overwrite: replace a model folder that exists.

    Raises:
      UserError: the folder exists, or cannot be written (disk full, ...).
    """
    check_free(folder, overwrite=overwrite)
    trees = {
        name: jax.tree.map(np.asarray, part.params)
        for name, part in parts(model).items()
    }
    checksums = {_checksum(name): _crc32(tree) for name, tree in trees.items()}
    with atomic_folder(folder) as part:
        model_record.write_record(part / RECORD, model, provenance, **checksums)
        _write_tokenizer(model, part / TOKENIZER)
        try:
            with ocp.Checkpointer(_handler()) as checkpointer:
                for name, tree in trees.items():
                    checkpointer.save(
                        orbax_path(part) / name, args=ocp.args.PyTreeSave(tree)
                    )
        except WRITE_ERRORS as error:
            raise OSError(short_reason(error)) from error


def read_model(folder: AnyPath) -> Model:
    """`read_any_model` of a denoiser.

    Raises:
      UserError: the same, or it is no denoiser.
    """
    return require_diffusion(read_any_model(folder), str(folder))


def read_any_model(folder: AnyPath) -> AnyModel:
    """Reads a model folder; the parameters are NumPy arrays, as they were written.

    Raises:
      UserError: there is no model folder here, or it is damaged.
    """
    record = read_record(folder)
    model = model_record.described(folder / RECORD, record)
    trees = {}
    for name, part in parts(model).items():
        trees[name] = _read_params(folder / name, part.abstract_params())
        if _crc32(trees[name]) != record.get(_checksum(name)):
            raise UserError(f"{folder / name}: is damaged; {FIX_HINT}")
    return _with_tokenizer(with_params(model, trees), folder)


def _write_tokenizer(model: AnyModel, folder: Path) -> None:
    """Of a model that is told texts."""
    if isinstance(model, Model) and model.text and model.text.tokenizer:
        folder.mkdir()
        write_tokenizer(model.text.tokenizer, folder)


def _with_tokenizer(model: AnyModel, folder: AnyPath) -> AnyModel:
    """The model as its folder has it, if it is told texts."""
    if not isinstance(model, Model) or model.text is None:
        return model
    length = model.text.config.max_length
    tokenizer = read_tokenizer(folder / TOKENIZER, length)
    if len(tokenizer.tokens) > model.text.config.vocab_size:
        raise UserError(
            f"{folder / TOKENIZER}: has {len(tokenizer.tokens)} tokens, and the text "
            f"encoder knows {model.text.config.vocab_size}; {FIX_HINT}"
        )
    return model._replace(text=model.text._replace(tokenizer=tokenizer))


def _checksum(name: str) -> str:
    """Its key in the record; Orbax keeps no checksum."""
    return "crc32" if name == PARAMS else f"{name}_crc32"


def read_shapes(folder: AnyPath) -> AnyModel:
    """Reads a model folder but for its arrays, which may be missing.

    Returns:
      The model with shapes as parameters; of the types that were written, or else of
      those that a network begins with.

    Raises:
      UserError: there is no model folder here, or its record is damaged.
    """
    model = model_record.described(folder / RECORD, read_record(folder))
    trees = {
        name: _read_shapes(folder / name, part.abstract_params())
        for name, part in parts(model).items()
    }
    return with_params(model, trees)


def _read_shapes(folder: AnyPath, shapes: dict[str, Any]) -> dict[str, Any]:
    """Those that are given, of the types that were written if anything was."""
    if not folder.exists():
        return shapes
    try:
        with ocp.Checkpointer(_handler()) as checkpointer:
            found: Any = checkpointer.metadata(orbax_path(folder))
        kept = cast(dict[tuple, Any], flatten_dict(found.item_metadata.tree))
    except Exception as error:  # as many kinds as in `_read_params`
        reason = sorted_out(error, folder)
        raise UserError(f"{folder}: is damaged ({reason}); {FIX_HINT}") from error
    typed = {}
    for path, leaf in cast(dict[tuple, Any], flatten_dict(shapes)).items():
        name = tuple(map(str, path))  # numbers of blocks are written as text
        dtype = kept[name].dtype if name in kept else leaf.dtype
        typed[path] = jax.ShapeDtypeStruct(leaf.shape, dtype)
    return unflatten_dict(typed)


def _read_params(folder: AnyPath, abstract: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays, a few at a time: Orbax holds those that it reads twice."""
    flat = cast(dict[tuple, Any], flatten_dict(abstract))
    # Arrays, not shapes, so that Orbax returns NumPy's; these take no memory.
    blank = {
        path: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)
        for path, leaf in flat.items()
    }
    found = {}
    try:
        with ocp.Checkpointer(_handler()) as checkpointer:
            for group in _groups(blank):
                like = unflatten_dict({path: blank[path] for path in group})
                args = ocp.args.PyTreeRestore(
                    item=like,
                    restore_args=jax.tree.map(lambda _: AS_NUMPY, like),
                    partial_restore=True,
                )
                part = checkpointer.restore(orbax_path(folder), args=args)
                found |= flatten_dict(part)
    # Orbax and TensorStore raise many kinds of errors for a file that is cut short,
    # missing or not theirs.
    except Exception as error:
        found = sorted_out(error, folder)
        if isinstance(found, Damaged):
            found = UserError(f"{folder}: is damaged ({found}); {FIX_HINT}")
        raise found from error
    # Orbax gives arrays as they were written, of whatever shape and type.
    if any(found[path].shape != leaf.shape for path, leaf in flat.items()):
        raise UserError(
            f"{folder}: does not fit {RECORD}, which was changed; {FIX_HINT}"
        )
    return unflatten_dict(found)


def _groups(arrays: Mapping[Any, np.ndarray]) -> Iterator[list[Any]]:
    """Keys of arrays, as many at a time as have `GROUP_BYTES`, but at least one."""
    group, size = [], 0
    for key, array in arrays.items():
        if group and size + array.nbytes > GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(key)
        size += array.nbytes
    yield group


def _crc32(params: Mapping[str, Any]) -> int:
    """Checksum of all arrays, in the order of the tree."""
    checksum = 0
    for leaf in jax.tree.leaves(params):
        # As bytes: bfloat16 has no buffer of its own.
        data = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
        checksum = zlib.crc32(data.data, checksum)
    return checksum


def read_record(folder: AnyPath) -> dict[str, Any]:
    """The content of `model.json`; raises as `model_record.read_record`."""
    return model_record.read_record(folder / RECORD, KIND)


def _handler() -> ocp.PyTreeCheckpointHandler:
    """Orbax without copies: arrays do not change here, and weights do not compress."""
    arrays = ocp.type_handlers.NumpyHandler(deepcopy_host_arrays=False)
    registry = ocp.type_handlers.create_type_handler_registry((np.ndarray, arrays))
    return ocp.PyTreeCheckpointHandler(
        type_handler_registry=registry, use_compression=False
    )
