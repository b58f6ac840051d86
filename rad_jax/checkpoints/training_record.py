"""What a model says of its training: the config, without places of one machine."""

from pathlib import PurePosixPath
from typing import Any

from rad_jax.config.experiment import Experiment, to_dict
from rad_jax.files.hub_address import is_hub


def training_record(experiment: Experiment) -> dict[str, Any]:
    """The config of a run but for network and noise, which a model states itself."""
    record = to_dict(experiment)
    for name in ("model", "schedule", "codec"):
        del record[name]
    del record["data"]["data_dir"], record["train"]["wandb_project"]
    if experiment.distil.kind:
        del record["distil"]["weights"]
        record["distil"]["teacher"] = shared_name(experiment.distil.teacher)
    else:
        del record["distil"]  # what was never asked for
    return record | {"pretrained": shared_name(experiment.pretrained)}


def shared_name(place: str) -> str:
    """What others may know a place by: an address of the Hub, or the last name.

    A model is passed on, the folders that it was made in are not.
    """
    return place if is_hub(place) else PurePosixPath(place).name
