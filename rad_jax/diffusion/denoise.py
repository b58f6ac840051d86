"""The one call through which sampling and training ask a base's network.

A base is a network (`models`), a clock (`clock`) and what its network predicts
(`gaussian.predict_x0`). The call takes RAD's variance-preserving images, whatever
process the base was trained on.
"""

from collections.abc import Callable

from rad_jax.diffusion.continuous import EXPLODING
from rad_jax.diffusion.losses import LossConfig
from rad_jax.diffusion.schedule import Schedule
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.models.apply import Params, make_apply
from rad_jax.models.clip import States
from rad_jax.models.config import NO_LORA, LoRAConfig
from rad_jax.models.ncsnpp_config import NCSNppConfig
from rad_jax.models.network import NetworkConfig
from rad_jax.models.noise_embedding import Noise
from rad_jax.typing import Images, Labels, LogLevels, Outputs, PRNGKeys

Denoise = Callable[..., Outputs]
"""``denoise(params, x, level, told, labels=None, dropout_keys=None, context=None)``.

Args:
  params: the network's.
  x: noisy images (b, h, w, c), variance preserving; an upsampler's low-resolution
    images behind them.
  level: log alpha-bar of every pixel of x, (b, h, w, 1).
  told: what the network is told of it (`conditioning`).
  labels: as of `UNet.__call__`, and so ``dropout_keys``.
  context: as of `SDUNet.__call__`, of a network that is told texts.

Returns:
  What the network predicts, and behind it the variance if it learns one.
"""


def check_base(
    config: NetworkConfig,
    schedule: ScheduleConfig,
    loss: LossConfig,
    weight_decay: float = 0.0,
) -> None:
    """Refuses parts that make no base, or a training that it cannot have.

    Raises:
      UserError: naming the keys, as those of a config.
    """
    kind = schedule.kind
    if isinstance(config, NCSNppConfig):
        fourier = config.embedding == "fourier"
        if fourier != (kind == "ve"):
            raise UserError(
                f"model.embedding={config.embedding} and schedule.kind={kind} do not "
                "go together: log sigma, of which ve tells the network, needs fourier, "
                "and all else positional"
            )
        if fourier and weight_decay:
            raise UserError(
                "optimizer.weight_decay would move the Fourier frequencies, which are "
                "not trained; set it to 0"
            )
    elif kind in EXPLODING:
        raise UserError(
            f"schedule.kind={kind} tells of sigmas, which model.architecture="
            f"{config.architecture} does not know; use ncsnpp"
        )
    if loss.vlb_weight and not config.learn_sigma:
        raise UserError(
            "loss.vlb_weight trains the variance, which the model (learn_sigma=False) "
            "does not predict; set loss.vlb_weight to 0"
        )
    if loss.vlb_weight and schedule.is_continuous:
        raise UserError(
            f"loss.vlb_weight is of steps, which the continuous time of {kind} has "
            "not; set it to 0"
        )


def make_denoise(
    config: NetworkConfig, schedule: Schedule, lora: LoRAConfig = NO_LORA
) -> Denoise:
    """The call of a base; to be used inside ``jax.jit``."""
    apply, clock = make_apply(config, lora), schedule.clock

    def denoise(
        params: Params,
        x: Images,
        level: LogLevels,
        told: Noise,
        labels: Labels | None = None,
        dropout_keys: PRNGKeys | None = None,
        context: States | None = None,
    ) -> Outputs:
        scale = clock.input_scale(level)
        scaled = x if scale is None else scale * x
        given = {} if context is None else {"context": context}
        return apply(params, scaled, told, labels, dropout_keys=dropout_keys, **given)

    return denoise
