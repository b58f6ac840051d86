"""Options of files are checked when they are made."""

import pytest

from rad_jax.errors import UserError
from rad_jax.inference.file_options import FileOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, r"seed is -1; it must lie in 0 .. 2\*\*32 - 1"),
        ({"seed": 2**32}, "seed is 4294967296; it must lie in"),
        ({"num_samples": 0}, "num_samples is 0; it must be >= 1"),
        ({"batch_size": 0}, "batch_size is 0; it must be >= 1"),
    ],
)
def test_mistakes_are_one_line(options, message):
    with pytest.raises(UserError, match=message):
        FileOptions(**options)
