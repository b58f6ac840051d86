"""The last convolution by three products of bfloat16, as TPUs compute "high" precision.

What it changes in the output, beside what computing the rest in bfloat16 does. A CPU
has no such products; here each factor is the sum of two of bfloat16, and the product of
the two small ones is left out.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import alternatives
from benchmarks.measured import measured, store
from benchmarks.unet import inputs, two_levels
from rad_jax.config.file import load_config
from rad_jax.models.apply import make_apply
from rad_jax.models.config import NO_LORA
from rad_jax.models.network import NetworkConfig, abstract_params
from tests.models.adm_files import random_params

CASES = {"digits": 16, "ffhq256": 64}
"""Networks, with random weights, and the image sizes."""


def output(config: NetworkConfig, dtype: str) -> np.ndarray:
    """Of RAD's network."""
    config = dataclasses.replace(config, dtype=dtype, dropout=0.0)
    x, hole = inputs(config, 1)
    params = random_params(abstract_params(config))
    apply, levels = make_apply(config, NO_LORA), two_levels(config, hole)
    anew = jax.jit(lambda *given: apply(*given))  # JAX would not trace it again
    return np.asarray(anew(params, x, levels))


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    record: dict[str, Any] = {"measured": measured(), "rows": []}
    for name, size in CASES.items():
        config = load_config(f"configs/{name}.py", []).model
        config = dataclasses.replace(config, image_size=size)
        exact = output(config, "float32")
        with alternatives.THREE_PRODUCTS():
            three = output(config, "float32")
        errors = {"three": three, "bfloat16": output(config, "bfloat16")}
        scale = np.sqrt(np.mean(exact**2))
        row = {"config": name, "size": size} | {
            way: float(np.sqrt(jnp.mean((found - exact) ** 2)) / scale)
            for way, found in errors.items()
        }
        record["rows"].append(row)
        print(row, flush=True)
    store(args.output, record)


if __name__ == "__main__":
    main()
