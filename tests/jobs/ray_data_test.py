"""Pictures on a local Ray, around a model that is a stub."""

import builtins
import dataclasses
import functools
import os
import signal
import time

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from rad_jax.errors import UserError
from rad_jax.inference.file_options import FileOptions
from rad_jax.inference.fill_regions import Fills
from rad_jax.inference.picture_fill import FillSettings, sample_seed
from rad_jax.inference.regions import denoiser_sizes
from rad_jax.inference.strategy import StrategyOptions
from rad_jax.jobs.inpaint_command import Prepared
from rad_jax.jobs.ray_data import SCHEMA, fill_dataset
from rad_jax.jobs.shard_kinds import Columns
from tests.conftest import ROOT
from tests.jobs import shards_test
from tests.jobs.files_test import noise
from tests.jobs.shard_files import hole, picture, png, read_shard, rows, write_parquet

pytestmark = [
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\."),
    pytest.mark.filterwarnings(r"ignore::FutureWarning:ray\."),
]

OPTIONS = FileOptions(seed=5, batch_size=4)


def prepare(options, fill=noise):
    sizes = denoiser_sizes(16, 4)
    settings = FillSettings(
        Fills(fill, fill), 3, sizes, options, StrategyOptions(), {"seed": "5"}
    )
    return Prepared("model", "steps", None, settings, "")


@pytest.fixture(scope="module")
def data():
    """``ray.data`` of a Ray of two CPUs on this machine alone."""
    # Ray's own modules and what it leaves open are no concern of ours.
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        object_store_memory=2**27,
        log_to_driver=False,
    )
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    yield ray.data
    ray.shutdown()


def test_smoke(data, tmp_path):
    for i in range(3):
        write_parquet(tmp_path / "i" / f"{i}.parquet", rows(range(10*i, 10 * i + 10)))
    t = time.time()
    ds = data.read_parquet(str(tmp_path / "i"))
    out = fill_dataset(ds, prepare, OPTIONS, actors=2, num_cpus=0.4)
    out.write_parquet(str(tmp_path / "o"))
    print(time.time() - t)
    table = pyarrow.parquet.read_table(tmp_path / "o")
    print(table.schema, table.num_rows, table["status"].to_pylist(), table["error"].to_pylist()[:3])
    print(sorted((tmp_path / "o").iterdir()))
