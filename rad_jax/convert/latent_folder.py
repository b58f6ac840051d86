"""Folders of diffusers of bases in latents: LDM's, and Stable Diffusion's.

Each network is a folder in them, whose `config.json` describes it; what is noised, and
how, is in that of the scheduler. All are read without trust.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rad_jax.checkpoints.model import Codec, Model, Text
from rad_jax.checkpoints.model_folder import check_free
from rad_jax.convert import autoencoder, clip, diffusers, infer, sd
from rad_jax.convert.config_shapes import check_encoder, check_unet
from rad_jax.convert.diffusers_folder import (
    CONFIG,
    SCHEDULER,
    SCHEDULES,
    STEMS,
    read_json,
    read_scheduler,
    weights_in,
    with_new_names,
)
from rad_jax.convert.latent_presets import process
from rad_jax.convert.parts import (
    Job,
    Part,
    check_vocabulary,
    naming,
    say,
    shapes_of,
    without,
    write_parts,
)
from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath
from rad_jax.models.autoencoder_config import AutoencoderConfig, require_codec
from rad_jax.models.clip_config import CLIPConfig, require_text
from rad_jax.models.config import UNetConfig
from rad_jax.models.network import NetworkConfig
from rad_jax.models.sd_config import SDConfig
from rad_jax.text.tokenizer_files import read_tokenizer
from rad_jax.weight_files.bad_file import shown
from rad_jax.weight_files.find import Markers
from rad_jax.weight_files.name_table import Entry
from rad_jax.weight_files.network import Network, read_network

INDEX = "model_index.json"
"""Names the class and the parts of a pipeline."""

UNET, TEXT, TOKENIZER = "unet", "text_encoder", "tokenizer"
CODECS = ("vae", "vqvae")

OTHERS = ("text_encoder_2", "text_encoder_3", "transformer", "bert", "prior")
"""Parts of other pipelines: Stable Diffusion XL and 3, FLUX, LDM that is told texts."""

LATENT_SCHEDULES = {**SCHEDULES, "scaled_linear": "scaled_linear"}

TEXT_STEMS = {".safetensors": "model", ".bin": "pytorch_model"}
"""Of transformers, by suffix."""

CONDITIONED = "UNet2DConditionModel"


class _Found(NamedTuple):
    """A network of a folder.

    Attributes:
      config: its architecture.
      part: its arrays, and the table of their names.
    """

    config: Any
    part: Part


def is_latent(source: AnyPath) -> bool:
    """Whether a folder is of diffusers, and of a base in latents or one like it."""
    if not any((source / name).is_file() for name in (INDEX, f"{UNET}/{CONFIG}")):
        return False
    parts = (*CODECS, TEXT, *OTHERS)
    # A part may be missing that the index names.
    listed = _listed(Path(source)) if (source / INDEX).is_file() else set()
    return any(name in listed or (source / name / CONFIG).is_file() for name in parts)


def _listed(source: Path) -> set[str]:
    """The parts that the index of a pipeline names; none without one."""
    if not (source / INDEX).is_file():
        return set()
    pairs = read_json(source / INDEX).items()
    return {name for name, x in pairs if type(x) is list and x and x[0]}


def convert_latent_folder(job: Job) -> None:
    """Makes a model folder of such a folder, which says all of it.

    Raises:
      UserError: as `command.convert`.
    """
    check_free(job.folder, overwrite=job.overwrite)
    _check_supported(job)
    source = job.source
    settings = read_json(_part(source, UNET) / CONFIG)
    told = settings.get("_class_name") == CONDITIONED
    # What is missing, before weights are read.
    places = (CODECS[0], TEXT, TOKENIZER) if told else (_codec_name(source),)
    folders = {name: _part(source, name) for name in places}
    if not (path := source / SCHEDULER).is_file():
        raise UserError(f"{source}: has no {SCHEDULER}; get it again")
    kind, ends, predicted = read_scheduler(path, LATENT_SCHEDULES)
    unet = _unet(source / UNET, settings)
    codec = _codec(folders[places[0]])
    read = {"params": unet.part, "codec": codec.part}
    text = None
    if told:
        encoder = _encoder(folders[TEXT])
        read["text"] = encoder.part
        tokenizer = read_tokenizer(folders[TOKENIZER], encoder.config.max_length)
        check_vocabulary(folders[TOKENIZER], tokenizer, encoder.config)
        text = Text(encoder.config, {}, tokenizer)
    with naming(source):
        require_codec(unet.config, codec.config)
        require_text(unet.config, text.config if text else None)
    schedule = process(kind, ends)
    model = Model(
        *(unet.config, schedule, predicted, {}),
        codec=Codec(codec.config, {}),
        text=text,
    )
    print(
        f"from its folder: image_size {model.image_size}, prediction {predicted}, "
        f"{kind} betas {ends[0]} to {ends[1]}, latents times "
        f"{codec.config.scaling_factor:g}"
    )
    linear = sd.is_linear(unet.part.network.arrays)
    about = {"layout": infer.DIFFUSERS, sd.LINEAR: linear}
    write_parts(job, model, read, about)


def _check_supported(job: Job) -> None:
    """Refuses flags, and pipelines of other bases.

    Raises:
      UserError: naming them.
    """
    source = job.source
    given = {"preset": job.preset, "key": job.key, "tokenizer": job.tokenizer}
    for name, value in {**given, **job.choices.made()}.items():
        if value is not None:
            raise UserError(
                f"{source}: --{name} has no use with a folder of diffusers of a base "
                "in latents, which says all"
            )
    listed = _listed(source)
    for name in OTHERS:
        if name in listed or (source / name).is_dir():
            index = source / INDEX
            found = read_json(index).get("_class_name") if index.is_file() else None
            kind = f"a {shown(found)}" if type(found) is str else "another pipeline"
            raise UserError(
                f"{source}: is of {kind} (it has {name}/), which is not supported "
                "yet; of bases in latents those of LDMPipeline and of Stable "
                "Diffusion 1.x and 2.x are"
            )


def _part(source: Path, name: str) -> Path:
    """The folder of a part.

    Raises:
      UserError: it is missing, or has no configuration.
    """
    folder = source / name
    if not folder.is_dir():
        raise UserError(f"{source}: has no {name}/, a part of it; get it again")
    if name != TOKENIZER and not (folder / CONFIG).is_file():
        raise UserError(f"{folder}: has no {CONFIG}; get it again")
    return folder


def _codec_name(source: Path) -> str:
    """What a pipeline without texts calls its autoencoder."""
    found = [name for name in CODECS if (source / name).is_dir()]
    return found[0] if found else "vqvae"


def _read(
    folder: Path,
    markers: Markers,
    stems: Mapping[str, str],
    table: Callable[[Network], tuple[Any, Network, list[Entry]]],
) -> _Found:
    """A network: its file, its arrays, and what a function makes of them."""
    weights = weights_in(folder, stems)
    network = read_network(weights, markers)
    with naming(weights):
        config, network, entries = table(network)
    say(weights, network, infer.DIFFUSERS, {})
    return _Found(config, Part(weights, network, entries))


def _unet(folder: Path, settings: Mapping[str, Any]) -> _Found:
    """The U-Net of either class.

    Raises:
      UserError: it is of neither, or of a kind that is not supported.
    """
    place, name = folder / CONFIG, settings.get("_class_name")
    with naming(place):
        config: NetworkConfig
        if name == CONDITIONED:
            if settings.get("in_channels") == 9:
                raise UserError(
                    "is of an inpainting U-Net of 9 channels, which is shown mask and "
                    "picture beside the noise; that is not supported yet, give the "
                    "4-channel one"
                )
            config = sd.config_from_diffusers(settings)
        elif name in (None, "UNet2DModel"):
            config = diffusers.config_from_diffusers(settings)
        else:
            raise UserError(
                f"is of {shown(str(name))}; only UNet2DModel and {CONDITIONED} are "
                "supported"
            )

    def table(network: Network) -> tuple[NetworkConfig, Network, list[Entry]]:
        network = with_new_names(network)
        check_unet(config, shapes_of(network))
        if isinstance(config, SDConfig):
            linear = sd.is_linear(network.arrays)
            return config, network, sd.diffusers_entries(config, linear=linear)
        assert isinstance(config, UNetConfig)
        return config, network, diffusers.entries(config)

    return _read(folder, infer.MARKERS, STEMS, table)


def _codec(folder: Path) -> _Found:
    """The autoencoder."""
    settings = read_json(folder / CONFIG)
    with naming(folder / CONFIG):
        others = autoencoder.settings_of(settings)

    def table(network: Network) -> tuple[AutoencoderConfig, Network, list[Entry]]:
        lost = [x for x in network.arrays if x.startswith(autoencoder.LOSS)]
        network = without(network, lost)
        config = autoencoder.infer(shapes_of(network), **others)
        # Of some layout: it was inferred in it.
        layout = str(autoencoder.layout_of(network.arrays))
        return config, network, autoencoder.entries(config, layout)

    return _read(folder, autoencoder.MARKERS, STEMS, table)


def _encoder(folder: Path) -> _Found:
    """The encoder of texts."""
    with naming(folder / CONFIG):
        config = clip.config_from_transformers(read_json(folder / CONFIG))

    def table(network: Network) -> tuple[CLIPConfig, Network, list[Entry]]:
        check_encoder(config, shapes_of(network))
        network = without(network, clip.unused(config, network.arrays))
        return config, network, clip.entries(config, network.arrays)

    return _read(folder, clip.MARKERS, TEXT_STEMS, table)
