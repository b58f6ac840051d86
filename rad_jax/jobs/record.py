"""What a folder of results is of: it takes no others."""

import dataclasses
import json
from typing import Any

from rad_jax.errors import UserError, first_line
from rad_jax.files.atomic import write_once
from rad_jax.files.bucket import AnyPath, bucket_errors, in_bucket
from rad_jax.jobs.manifest import FOLDER
from rad_jax.version import __version__

FILE = "_job.json"
"""Of the manifest's folder; readers of Parquet pass over names with ``_``."""

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Job:
    """All that results depend on, and where they come from.

    Attributes:
        image: the pictures, an absolute path or an address.
        mask: the masks; "" where there are none of their own.
        model: fingerprint of the model.
        sampling: the method and its options, in one line.
        options: of files and strategy, by name.
        length: of batches, see `pipeline.fill_items`.
    """

    image: str
    mask: str
    model: str
    sampling: str
    options: dict[str, Any]
    length: int

    def described(self) -> dict[str, Any]:
        """As its file has it."""
        fields = dataclasses.asdict(self)
        options = fields.pop("options")
        return {"job_format": FORMAT, "rad_jax": __version__, **fields, **options}


def claim(output: AnyPath, job: Job) -> Job:
    """Claims a folder for a job, or goes on with the job that it holds.

    Several workers may do so at once.

    Returns:
        The job with the length that the folder's was begun with.

    Raises:
        UserError: it holds results of another job, or of another version, or cannot be
            written.
    """
    path, mine = output / FOLDER / FILE, job.described()
    mine = json.loads(json.dumps(mine))
    with bucket_errors(output):
        if not path.is_file():
            text = json.dumps(mine, indent=2) + "\n"
            if in_bucket(path):
                path.write_text(text)
            else:
                write_once(path, text.encode())
    found = _read(path)
    theirs = found.get("rad_jax")
    if found.get("job_format") != FORMAT or theirs != __version__:
        raise UserError(
            f"{output}: is of rad_jax {theirs}, and this is {__version__}; go on with "
            "that version, or choose another output"
        )
    for name in sorted({*found, *mine} - {"length"}):
        if found.get(name) != mine.get(name):
            raise UserError(
                f"{output}: holds results with {name} {_shown(found.get(name))}, not "
                f"{_shown(mine.get(name))}; choose another output"
            )
    return dataclasses.replace(job, length=int(found["length"]))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


def _read(path: AnyPath) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict) or "length" not in found:
            raise ValueError("it is no job")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read ({first_line(error)}); choose another output"
        ) from error
    return found
