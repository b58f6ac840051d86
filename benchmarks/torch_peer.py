"""ADM's U-Net in PyTorch, conditioned per image or per pixel: a peer to time.

It bears guided-diffusion's state-dict keys. Timesteps (b,) make it ADM, a map (b, h, w)
makes it RAD as the paper has it (Sec. 3.3): every pixel is embedded, and the embedding
is resized to each resolution. That it could embed every distinct timestep only is this
project's finding (`rad_jax.models.noise_embedding`), and not done here.
"""

# PyTorch is not among the packages of a development environment.
# pyright: reportMissingImports=false

import contextlib
import copy
import math
import os
import shutil
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
import torch._inductor.config as inductor
import torch.nn.functional as F
from torch import Tensor, nn

from rad_jax.models.architecture import Resampling, StageSpec
from rad_jax.models.config import (
    GROUPS,
    UNetConfig,
    decoder_stages,
    encoder_stages,
)

Network = Callable[..., Tensor]
"""``network(x, timesteps, labels=None)``, as `UNet.forward`."""


class UNet(nn.Module):
    """ADM's U-Net (Dhariwal & Nichol 2021), without dropout: for inference."""

    def __init__(self, config: UNetConfig, dtype: torch.dtype):
        """Builds the layers, with PyTorch's initial weights."""
        super().__init__()
        self.config, self.dtype = config, dtype
        width, features = config.widths[0], config.embedding_channels
        # ADM's; no buffer, for those follow `to` into bfloat16.
        half = config.model_channels // 2
        self.frequencies = torch.exp(torch.arange(half) * (-math.log(10000) / half))
        self.time_embed = nn.Sequential(
            nn.Linear(config.model_channels, features),
            nn.SiLU(inplace=True),
            nn.Linear(features, features),
        )
        if config.num_classes is not None:
            self.label_emb = nn.Embedding(config.num_classes, features)
        self.input_blocks = nn.ModuleList(
            [
                Stage([_conv(config.in_channels, width)]),
                *(_stage(spec, config) for spec in encoder_stages(config)),
            ]
        )
        level, last = config.num_resolutions - 1, config.widths[-1]
        heads = config.heads(last, up=False)
        self.middle_block = Stage(
            [
                ResBlock(last, last, level, config),
                Attention(last, heads, config),
                ResBlock(last, last, level, config),
            ]
        )
        self.output_blocks = nn.ModuleList(
            _stage(spec, config) for spec in decoder_stages(config)
        )
        self.out = nn.Sequential(
            GroupNorm(width),
            nn.SiLU(inplace=True),
            _conv(width, config.output_channels),
        )

    def forward(
        self, x: Tensor, timesteps: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        """Predicts from noisy images.

        Args:
          x: noisy images (b, c, h, w), float32.
          timesteps: ADM's, (b,) or a map (b, h, w).
          labels: class labels (b,), exactly if the network has classes.

        Returns:
          The prediction, float32.
        """
        embeddings = self._embed(timesteps, labels)
        h = x.to(self.dtype)
        skips = []
        for stage in self.input_blocks:
            h = stage(h, embeddings)
            skips.append(h)
        h = self.middle_block(h, embeddings)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, skips.pop()], dim=1), embeddings)
        return self.out(h).float()

    def _embed(self, timesteps: Tensor, labels: Tensor | None) -> list[Tensor]:
        """SiLU(embedding) (b, d, h, w) for each resolution; h = w = 1 for (b,).

        The blocks of one resolution share the map, SiLU included.
        """
        if timesteps.ndim == 1:
            timesteps = timesteps[:, None, None]
        angles = timesteps.flatten(1)[..., None].float() * self.frequencies
        angles = torch.cat([angles.cos(), angles.sin()], dim=-1)
        tokens = self.time_embed(angles.to(self.dtype))
        if labels is not None:
            tokens = tokens + self.label_emb(labels)[:, None]
        maps = _maps(F.silu(tokens), timesteps.shape[1:])
        return [_halved(maps, level) for level in range(self.config.num_resolutions)]


def _halved(maps: Tensor, level: int) -> Tensor:
    """The maps at resolution `level`: bilinear, with aligned corners."""
    h, w = maps.shape[2:]
    if level == 0 or h == w == 1:
        return maps
    size = (h >> level, w >> level)
    return F.interpolate(maps, size, mode="bilinear", align_corners=True)


# A 1x1 convolution of channels-last maps is a matrix product with their tokens, a view.
# Tokens have three dimensions: inductor stores all that has four as channels-last maps.


def _tokens(maps: Tensor) -> Tensor:
    """Maps (b, c, h, w) as tokens (b, h * w, c)."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)


def _maps(tokens: Tensor, size: Sequence[int]) -> Tensor:
    """Tokens (b, h * w, c) as maps (b, c, h, w)."""
    return tokens.unflatten(1, size).permute(0, 3, 1, 2)


class GroupNorm(nn.GroupNorm):
    """Group normalisation; on large maps compiled for a CPU by other means."""

    def __init__(self, channels: int):
        """Builds scale 1 and bias 0."""
        super().__init__(GROUPS, channels)

    def forward(self, input: Tensor) -> Tensor:
        """Normalises."""
        pixels = input.shape[2] * input.shape[3]
        compiled = torch.compiler.is_compiling() and input.device.type == "cpu"
        if not compiled or pixels < ROWS**2 or pixels % ROWS:
            return super().forward(input)
        return group_norm(input, self)


ROWS = 64
"""Pixels summed at a time; fewer than ROWS of these sums are not worth it."""


def group_norm(x: Tensor, layer: nn.GroupNorm) -> Tensor:
    """Group normalisation of channels-last maps in a form that inductor compiles well.

    What it makes of its own reads a few channels of one pixel after the other. Here all
    channels of ROWS pixels are summed at once; and the product with `same`, which it
    does not fuse, keeps the grouping out of the loop over the pixels. 25 ms instead of
    43 ms for 256x256x128.
    """
    b, c, h, w = x.shape
    rows = x.float().permute(0, 2, 3, 1).reshape(b, -1, ROWS, c)
    group = torch.arange(c, device=x.device) // (c // GROUPS)
    same = (group[:, None] == group).float() / (h * w * (c // GROUPS))
    mean = rows.sum(2).sum(1) @ same
    # As PyTorch's own kernel for channels-last maps has it.
    variance = (rows.square().sum(2).sum(1) @ same - mean.square()).clamp(min=0)
    scale = torch.rsqrt(variance + layer.eps) * layer.weight
    shift = layer.bias - mean * scale
    return (x * scale[:, :, None, None] + shift[:, :, None, None]).to(x.dtype)


class Stage(nn.ModuleList):
    """Blocks between two skip connections."""

    def forward(self, h: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
        """Applies one after the other."""
        for block in self:
            told = isinstance(block, ResBlock)
            h = block(h, embeddings[block.level]) if told else block(h)
        return h


class ResBlock(nn.Module):
    """Residual block; `level` is the resolution of its output."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        level: int,
        config: UNetConfig,
        resampling: Resampling | None = None,
    ):
        """Builds the layers."""
        super().__init__()
        self.level, self.resampling = level, resampling
        self.scale_shift = config.use_scale_shift_norm
        self.in_layers = nn.Sequential(
            GroupNorm(inputs),
            nn.SiLU(inplace=True),
            _conv(inputs, outputs),
        )
        features = 2 * outputs if self.scale_shift else outputs
        # ADM has a SiLU here; it is in the embedding, once for all blocks.
        self.emb_layers = nn.Sequential(
            nn.Identity(), nn.Linear(config.embedding_channels, features)
        )
        self.out_layers = nn.Sequential(
            GroupNorm(outputs),
            nn.SiLU(inplace=True),
            nn.Identity(),
            _conv(outputs, outputs),
        )
        self.skip_connection = (
            nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Applies the block."""
        h = self.in_layers[2](self._resample(self.in_layers[:2](x)))
        told = _maps(self.emb_layers(_tokens(embedding)), embedding.shape[2:])
        norm, rest = self.out_layers[0], self.out_layers[1:]
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            h = torch.addcmul(shift, norm(h), 1 + scale)
        else:
            h = norm(h + told)
        return self.skip_connection(self._resample(x)) + rest(h)

    def _resample(self, x: Tensor) -> Tensor:
        if self.resampling == "up":
            return F.interpolate(x, scale_factor=2)
        return F.avg_pool2d(x, 2) if self.resampling == "down" else x


class Attention(nn.Module):
    """Self-attention over all pixels, with its residual."""

    def __init__(self, channels: int, heads: int, config: UNetConfig):
        """Builds the layers."""
        super().__init__()
        self.heads, self.new_order = heads, config.use_new_attention_order
        self.norm = GroupNorm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Attends."""
        # Channels are (qkv, heads, channels) or, of old, (heads, qkv, channels).
        order = (3, self.heads) if self.new_order else (self.heads, 3)
        qkv = _linear(self.qkv, _tokens(self.norm(x))).unflatten(2, (*order, -1))
        parts = qkv.unbind(2 if self.new_order else 3)
        q, k, v = (part.transpose(1, 2) for part in parts)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + _maps(_linear(self.proj_out, attended), x.shape[2:])


def _linear(layer: nn.Conv1d, tokens: Tensor) -> Tensor:
    """A convolution of width 1."""
    return F.linear(tokens, layer.weight[..., 0], layer.bias)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)


def _stage(spec: StageSpec, config: UNetConfig) -> Stage:
    width, level = spec.outputs, spec.resampled_level
    blocks: list[nn.Module] = []
    if spec.residual:
        blocks.append(ResBlock(spec.inputs, width, spec.level, config))
    if spec.heads:
        blocks.append(Attention(width, spec.heads, config))
    if spec.resampling and config.resblock_updown:
        blocks.append(ResBlock(width, width, level, config, spec.resampling))
    elif spec.resampling == "up":
        layers = {"nearest": nn.Upsample(scale_factor=2), "conv": _conv(width, width)}
        blocks.append(nn.Sequential(OrderedDict(layers)))
    elif spec.resampling == "down":
        layers = {"op": _conv(width, width, stride=2)}
        blocks.append(nn.Sequential(OrderedDict(layers)))
    return Stage(blocks)


def build(
    config: UNetConfig,
    state_dict: Mapping[str, Any] | None = None,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> UNet:
    """A network for inference.

    Args:
      config: architecture; its own `dtype` and `dropout` are passed over.
      state_dict: arrays by guided-diffusion's keys, or None for random weights.
      device: "cpu" or "cuda".
      dtype: of weights and of what lies between input and output.
    """
    with torch.device(device):
        model = UNet(config, dtype).to(dtype)
    if state_dict is not None:
        arrays = {key: np.array(x, np.float32) for key, x in state_dict.items()}
        model.load_state_dict({k: torch.from_numpy(x) for k, x in arrays.items()})
    return model.eval().requires_grad_(False)


def ways(model: UNet) -> dict[str, Network]:
    """Named ways to run a network, from the plainest to what should be fastest.

    They compute in inference mode. Those that compile do so in their first call, and
    again for every other shape. Switches of PyTorch are set for the whole process.
    """
    cuda = next(model.parameters()).is_cuda
    modes = {"compiled": "default"}
    if cuda:
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")  # JAX's default on a GPU, too
        modes |= {"CUDA graphs": "reduce-overhead", "autotuned": "max-autotune"}
    else:
        # Packs the weights for oneDNN. Given to torch.compile as an option it does
        # nothing, since tracing reads the global one.
        inductor.freezing = True
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        warnings.warn("no C++ compiler: there are no compiled ways", stacklevel=2)
        modes = {}
    last: Any = copy.deepcopy(model)
    last.to(memory_format=torch.channels_last)
    found = {
        "eager": _runner(model, torch.contiguous_format),
        "channels_last": _runner(last, torch.channels_last),
    }
    for name, mode in modes.items():
        # Without graph breaks there is an error where it would fall back to eager.
        compiled = torch.compile(last, mode=mode, fullgraph=True, dynamic=False)
        found[f"channels_last, {name}"] = _runner(compiled, torch.channels_last)
    if model.dtype != torch.float32:
        # Weights are rounded in every call, and normalisation is in float32.
        wide = copy.deepcopy(last).float()
        wide.dtype = torch.float32
        cast = torch.autocast(next(model.parameters()).device.type, model.dtype)
        found["channels_last, autocast"] = _runner(wide, torch.channels_last, cast)
    return found


def _runner(
    network: Network,
    memory_format: torch.memory_format,
    cast: AbstractContextManager | None = None,
) -> Network:
    cast = cast or contextlib.nullcontext()

    def run(x: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> Tensor:
        x = x.contiguous(memory_format=memory_format)
        with torch.inference_mode(), cast:
            # The next call of a CUDA graph writes over what this one returns.
            return network(x, timesteps, labels).clone()

    return run
