"""A small plain ADM with random weights, on disk, for the methods that need one."""

import jax

from rad_jax.checkpoints.model import Model
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.models.apply import init_params
from rad_jax.models.config import UNetConfig

CONFIG = UNetConfig(
    image_size=16,
    model_channels=32,
    channel_mult=(1,),
    attention_resolutions=(),
    num_res_blocks=1,
    in_channels=1,
    out_channels=1,
    num_head_channels=32,
    learn_sigma=True,
)


def plain_model(config=CONFIG, known_steps=0, parametrisation="eps"):
    """Of the weights that begin as zeros, some noise: its outputs are not all alike."""
    params = init_params(config, jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [
        x + 0.02 * jax.random.normal(key, x.shape)
        for x, key in zip(leaves, keys, strict=True)
    ]
    schedule = ScheduleConfig(known_steps=known_steps)
    return Model(config, schedule, parametrisation, jax.tree.unflatten(tree, noisy))


def write_plain(folder, *arguments, **options):
    """`plain_model` as a model folder."""
    write_model(folder, plain_model(*arguments, **options), {})
    return folder
