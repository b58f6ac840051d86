"""Checkpoints of LaMa (Suvorov et al., WACV 2022) to `Lama` parameters and back.

The keys are those of the generator: a sequence of modules, each with its number.
"""

from collections.abc import Mapping, Sequence

from rad_jax.errors import UserError
from rad_jax.files.remarks import some
from rad_jax.models.lama import abstract_params
from rad_jax.models.lama_config import LamaConfig
from rad_jax.weight_files import name_table
from rad_jax.weight_files.bad_file import shown
from rad_jax.weight_files.name_table import CONV, SAME, Entry, Layout, Path

LAMA = "lama"
"""What provenance calls the layout."""

FIRST = "model.1.ffc.convl2l.weight"
MARKERS = (FIRST, "model.1.bn_l.running_mean")
"""Keys that every generator of Fourier convolutions has; before them any prefix."""

FIRST_BLOCK = 5
MAX_BLOCKS = 500
CONVERTIBLE = "built as LaMa-Fourier and Big LaMa"

COUNTER = ".num_batches_tracked"
"""End of the keys of counters, which training alone looks at."""

STATISTICS = (".running_mean", ".running_var")
"""Ends of the keys of what normalisation has kept, which is no parameter."""

TRANSPOSED = Layout(
    lambda x: x.transpose(2, 3, 0, 1)[::-1, ::-1],
    lambda x: (x[::-1, ::-1].transpose(2, 3, 0, 1),),
)
"""(in, out, h, w) of a transposed convolution to (h, w, in, out), turned round."""

OTHERS = (
    (".ffc.", "holds Fourier convolutions, but not in the order of LaMa's generator"),
    ("generator.", "holds a generator of LaMa without Fourier convolutions"),
    ("discriminator.", "holds LaMa's discriminator without its generator"),
)
"""Parts of keys of files without such a generator, and what they tell."""


def entries(config: LamaConfig) -> list[Entry]:
    """The table for this architecture."""
    found = _conv_norm("model.1", ("conv_in",))
    for i in range(len(config.widths) - 2):
        found += _conv_norm(f"model.{2 + i}", ("down", i))
    split = f"model.{FIRST_BLOCK - 1}"
    found += _conv_norm(split, ("to_local",))
    found += _conv_norm(split, ("to_global",), conv="convl2g", norm="bn_g")
    for i in range(config.num_blocks):
        for name in ("conv1", "conv2"):
            found += _ffc(f"model.{FIRST_BLOCK + i}.{name}", ("blocks", i, name))
    # Behind the blocks local and global channels are joined.
    number = FIRST_BLOCK + config.num_blocks + 1
    for i in range(len(config.widths) - 1):
        path = ("up", i)
        found += name_table.layer(f"model.{number}", path, TRANSPOSED)
        found += _norm(f"model.{number + 1}", (*path, "norm"))
        number += 3
    last = f"model.{number + 1}"  # reflected first
    found.append(Entry((f"{last}.weight",), ("conv_out", "kernel"), CONV))
    found.append(Entry((f"{last}.bias",), ("bias_out",), SAME))
    return found


def _conv_norm(
    key: str, path: Path, conv: str = "convl2l", norm: str = "bn_l"
) -> list[Entry]:
    kernel = (*path, "conv", "kernel")
    return [
        Entry((f"{key}.ffc.{conv}.weight",), kernel, CONV),
        *_norm(f"{key}.{norm}", (*path, "norm")),
    ]


def _ffc(key: str, path: Path) -> list[Entry]:
    spectral, ours = f"{key}.ffc.convg2g", (*path, "global_to_global")
    kernels = {
        f"{key}.ffc.convl2l": (*path, "local_to_local"),
        f"{key}.ffc.convl2g": (*path, "local_to_global"),
        f"{key}.ffc.convg2l": (*path, "global_to_local"),
        f"{spectral}.conv1.0": (*ours, "reduce"),
        f"{spectral}.fu.conv_layer": (*ours, "fourier", "conv"),
        f"{spectral}.conv2": (*ours, "expand"),
    }
    norms = {
        f"{spectral}.conv1.1": (*ours, "norm"),
        f"{spectral}.fu.bn": (*ours, "fourier", "norm"),
        f"{key}.bn_l": (*path, "local_norm"),
        f"{key}.bn_g": (*path, "global_norm"),
    }
    return [
        *(
            Entry((f"{name}.weight",), (*to, "kernel"), CONV)
            for name, to in kernels.items()
        ),
        *(entry for name, to in norms.items() for entry in _norm(name, to)),
    ]


def _norm(key: str, path: Path) -> list[Entry]:
    return [
        *name_table.norm(key, path),
        Entry((f"{key}.running_mean",), (*path, "mean"), SAME),
        Entry((f"{key}.running_var",), (*path, "var"), SAME),
    ]


def infer_lama(shapes: Mapping[str, Sequence[int]]) -> LamaConfig:
    """The architecture that the shapes in a file tell, all of it.

    Args:
      shapes: by key; those of `COUNTER` left out.

    Raises:
      UserError: one line on the variant of LaMa that it is instead.
    """
    if any(".lfu." in key for key in shapes):
        raise _variant("with local Fourier units (enable_lfu)")
    widths = shapes[FIRST]
    if len(widths) != 4 or not widths[0]:
        raise _variant(f"whose {FIRST} has the shape {tuple(widths)}")
    start = f"model.{FIRST_BLOCK}."
    begins = {key.partition(".conv1.")[0] for key in shapes if ".conv1.ffc." in key}
    numbers = {name.removeprefix("model.") for name in begins}
    count = len(numbers)
    if numbers != {str(FIRST_BLOCK + i) for i in range(count)} or not count:
        raise _variant(f"whose residual blocks do not begin at {start}* and go on")
    if count > MAX_BLOCKS:  # to build such a network would take hours
        raise _variant(f"with {count} residual blocks")
    config = LamaConfig(count, widths[0])
    _check_ratios(config, shapes)
    expected = name_table.file_shapes(entries(config), abstract_params(config))
    given = {key: tuple(shape) for key, shape in shapes.items()}
    differs = [key for key in expected if given.get(key) != expected[key]]
    differs += [key for key in given if key not in expected]
    if differs:
        raise _variant(
            f"other than in its published models in {some(map(shown, differs), 3)}"
        )
    return config


def _check_ratios(config: LamaConfig, shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuses another share of global channels, of the first layers or the blocks."""
    if "model.2.ffc.convl2g.weight" in shapes or "model.1.ffc.convl2g.weight" in shapes:
        raise _variant("with global channels before its residual blocks")
    found = shapes.get(f"model.{FIRST_BLOCK - 1}.ffc.convl2g.weight", (0,))
    if tuple(found[:1]) != (config.global_channels,):
        raise _variant(
            f"with {found[0]} global channels of {config.widths[-1]} in its residual "
            f"blocks, not {config.global_channels} (ratio_gin and ratio_gout 0.75)"
        )


def _variant(text: str) -> UserError:
    return UserError(
        f"is of a LaMa {text}; those that can be converted are {CONVERTIBLE}"
    )


def other_kind(keys: Sequence[str]) -> str | None:
    """What a file without such a generator has of LaMa, if it has something."""
    for part, text in OTHERS:
        if any(part in key for key in keys):
            return f"{text}; those that can be converted are {CONVERTIBLE}"
    return None
