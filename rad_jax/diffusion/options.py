"""What can be chosen of the reverse process, as values that are checked when made.

No JAX is imported here: the command line reads choices and defaults from these classes.
"""

import dataclasses
import difflib
import itertools
from collections.abc import Sequence

from rad_jax.errors import UserError

METHODS = (
    *("ddpm", "ddim", "dpm++", "renoise"),
    *("heun", "euler_maruyama", "reverse_diffusion", "pc"),
)
TWICE = ("heun", "pc")
"""Those that ask the network twice in a step."""

VARIANCES = ("learned", "small", "large")
GRIDS = ("uniform", "quadratic", "log_snr", "official")
SEAMS = ("paste", "feather", "poisson")
"""What a base in latents does where a hole ends, whose known pixels stay: nothing, or
a blend inside the hole, or its gradients alone are taken (`inference.blending`).
"""

SEAM = "poisson"

GUIDANCE = 7.5
"""Of texts: what programs of Stable Diffusion take."""

PARAMETRISATIONS = ("eps", "v", "score", "x0", "eps_as_v", "score_as_v")
"""What a network predicts: the noise, the velocity, the score times the noise's
deviation (which is the noise with the other sign), or the clean image; "..as_v" is a
velocity by a network of noise or score (`gaussian.MOST_GAIN`).
"""

OF_TEACHERS = {"eps_as_v": "eps", "score_as_v": "score"}
"""What the network predicted before, where that cannot be learned in few steps."""


def evaluations_in_a_step(method: str) -> int:
    """How often one of `METHODS` asks the network."""
    return 2 if method in TWICE else 1


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """How a reverse step is made.

    Attributes:
      method: "ddpm" (ancestral, the paper's), "ddim" or "dpm++" (DPM-Solver++(2M));
        "renoise" (the predicted clean image, noised again: of models that were trained
        for few steps);
        "heun" (of the probability-flow ODE); of the reverse SDE "euler_maruyama",
        "reverse_diffusion", and "pc", which is the latter with a Langevin step before
        each of its own (score_sde's predictor-corrector).
      eta: DDIM's share of the ancestral noise, 0 (deterministic) to 1.
      variance: of "ddpm": "learned" (the network's last channels), "small"
        (posterior) or "large" (b_{t|s}).
      parametrisation: what the network predicts, one of `PARAMETRISATIONS`.
      clip: clip predictions of the clean image to [-1, 1].
      snr: of "pc", how large its Langevin steps are. score_sde's are 0.16 for CIFAR-10
        and 0.075 for 256 pixels.
    """

    method: str = "ddpm"
    eta: float = 0.0
    variance: str = "learned"
    parametrisation: str = "eps"
    clip: bool = True
    snr: float = 0.16

    def __post_init__(self):
        """Refuses unknown choices."""
        require_one_of("method", self.method, METHODS)
        require_one_of("variance", self.variance, VARIANCES)
        require_one_of("parametrisation", self.parametrisation, PARAMETRISATIONS)
        require_unit("eta", self.eta)
        require_unit("snr", self.snr)


STEPS, SAMPLER, GRID = 100, "ddpm", "uniform"
"""How a model fills holes that was trained for all times; the paper's choices."""

FEW_SAMPLER = "renoise"
"""Of a model that was distilled for few evaluations."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a model fills holes, with nothing left open: see `SamplingOptions`."""

    steps: int
    sampler: str | SamplerConfig
    grid: str | Sequence[int]
    eta: float = 0.0
    label: int | None = None
    snr: float = SamplerConfig.snr
    seam: str | None = None
    prompt: str | None = None
    negative_prompt: str = ""
    guidance: float = GUIDANCE

    @property
    def method(self) -> str:
        """Of the sampler, one of `METHODS`."""
        return method_of(self.sampler)

    @property
    def evaluations(self) -> int:
        """How often the network is asked for an image."""
        return self.steps * evaluations_in_a_step(self.method)

    def __str__(self) -> str:
        """As PNG files and tables name it."""
        name = self.method
        eta = f", eta {self.eta:g}" if self.eta else ""
        own = self if isinstance(self.sampler, str) else self.sampler
        snr = f", snr {own.snr:g}" if name == "pc" else ""
        seam = f", seam {self.seam}" if self.seam else ""
        said = ""
        if self.prompt is not None:
            said = f", prompt {self.prompt!r}, guidance {self.guidance:g}"
            unlike = self.negative_prompt
            said += f", negative prompt {unlike!r}" if unlike else ""
        if isinstance(self.grid, str):
            where = f"{self.steps} steps, grid {self.grid}"
        else:
            where = f"times {' '.join(map(str, self.grid))}"
        return f"{name}, {where}{eta}{snr}{seam}{said}"


@dataclasses.dataclass(frozen=True)
class SamplingOptions:
    """How holes are to be filled; what is None is as the model says, see `for_model`.

    Attributes:
      steps: of the reverse process, 1 .. T1; network evaluations, but for `TWICE`.
      sampler: one of `METHODS`, with what else fits the model; or all of it.
      grid: where the steps lie, one of `GRIDS`; see `sampling.time_grid`. Or the times
        at which the network is asked, as many as steps, falling from T1.
      eta: of the method "ddim": its share of the ancestral noise, 0 to 1.
      label: what the images show, a class of the model; None for those without.
      snr: of the method "pc", `SamplerConfig.snr`.
      seam: of a base in latents, one of `SEAMS`; by default `SEAM`.
      prompt: what is to be seen; exactly of a model that is told texts.
      negative_prompt: what is not.
      guidance: how much more like the prompt than like the negative one: 1 takes what
        the network says of the prompt alone, and asks half as often.

    Raises:
      UserError: a choice is unknown, or makes no sense beside the others.
    """

    steps: int | None = None
    sampler: str | SamplerConfig | None = None
    grid: str | Sequence[int] | None = None
    eta: float = 0.0
    label: int | None = None
    snr: float = SamplerConfig.snr
    seam: str | None = None
    prompt: str | None = None
    negative_prompt: str = ""
    guidance: float = GUIDANCE

    def __post_init__(self):
        """Refuses what no model can do; how many steps there are its schedule says."""
        if isinstance(self.sampler, str):
            require_one_of("sampler", self.sampler, METHODS)
        if self.seam is not None:
            require_one_of("seam", self.seam, SEAMS)
        require_at_least("guidance", self.guidance, 0)
        if self.prompt is None and self.negative_prompt:
            raise UserError("negative_prompt is given, and no prompt; give one")
        if isinstance(self.grid, str):
            require_one_of("grid", self.grid, GRIDS)
        elif self.grid is not None:
            object.__setattr__(self, "grid", require_falling(self.grid, self.steps))
        require_ddim(self.eta, self.sampler)
        require_unit("snr", self.snr)
        if self.snr != SamplerConfig.snr and self.sampler != "pc":
            raise UserError(f"snr is {self.snr}; only the sampler pc takes one")

    def for_model(self, few_steps: tuple[int, ...] = ()) -> Sampling:
        """The options with what a model says where they are None.

        Args:
          few_steps: of the model. By `FEW_SAMPLER`, and where no grid is given, it is
            asked at these times: at as many as there are steps, by default at all. Of a
            model without, or by another sampler or grid, there are `STEPS` steps, or
            as many as times are given, by `SAMPLER` on `GRID`.

        Raises:
          UserError: the model was not distilled for so many steps.
        """
        steps, grid = self.steps, self.grid
        sampler = self.sampler or (FEW_SAMPLER if few_steps else SAMPLER)
        if few_steps and grid is None and method_of(sampler) == FEW_SAMPLER:
            grid = few_times(few_steps, len(few_steps) if steps is None else steps)
        grid = grid or GRID
        if steps is None:
            steps = STEPS if isinstance(grid, str) else len(grid)
        own = self.eta, self.label, self.snr, self.seam
        own += self.prompt, self.negative_prompt, self.guidance
        return Sampling(steps, sampler, grid, *own)


def method_of(sampler: str | SamplerConfig) -> str:
    """One of `METHODS`."""
    return sampler if isinstance(sampler, str) else sampler.method


def few_times(few_steps: tuple[int, ...], count: int) -> tuple[int, ...]:
    """The times at which a distilled model is asked ``count`` times.

    T1, where the hole is all noise, and of the times that it was distilled for the
    last: of (1000, 640, 360, 160) two are (1000, 160).

    Raises:
      UserError: it was not distilled for so many.
    """
    most = len(few_steps)
    if not 1 <= count <= most:
        raise UserError(
            f"steps is {count}; the model was distilled for 1 .. {most} (times "
            f"{', '.join(map(str, few_steps))}); give one of these, or times and a "
            "sampler of your own"
        )
    return (few_steps[0], *few_steps[most - count + 1 :])


def require_one_of(name: str, value: str, known: Sequence[str]) -> None:
    """Raises UserError for a value that is not one of those that are known."""
    if value not in known:
        hint = nearest(value, known)
        raise UserError(f"{name} is {value!r}; use one of {', '.join(known)}{hint}")


def require_falling(times: Sequence[int], count: int | None) -> tuple[int, ...]:
    """The times, if they fall, end above 0, and are so many; None: however many.

    Raises:
      UserError: they do not.
    """
    falling = all(a > b for a, b in itertools.pairwise(times))
    if not times or not falling or times[-1] < 1:
        raise UserError(
            f"times are {', '.join(map(str, times))}; they must fall, and end above 0"
        )
    if count is not None and len(times) != count:
        raise UserError(f"times are {len(times)}, and steps is {count}; give as many")
    return tuple(times)


def nearest(value: object, known: Sequence[str]) -> str:
    """What a message says of the nearest of what is known; "" if none is near."""
    near = difflib.get_close_matches(str(value), known, n=1, cutoff=0.4)
    return f" (the nearest is {near[0]!r})" if near else ""


def require_ddim(eta: float, sampler: object) -> None:
    """Raises UserError for an eta out of [0, 1], or of another sampler than ddim."""
    require_unit("eta", eta)
    if eta and sampler != "ddim":
        raise UserError(f"eta is {eta}; only the sampler ddim takes one")


def require_unit(name: str, value: float) -> None:
    """Raises UserError for a value out of [0, 1]."""
    if not 0 <= value <= 1:
        raise UserError(f"{name} is {value}; it must lie in [0, 1]")


def require_at_least(name: str, value: int | float, least: int) -> None:
    """Raises UserError for a value below the least that there can be."""
    if not value >= least:
        raise UserError(f"{name} is {value}; it must be >= {least}")
