"""The blocks of FID's Inception network, as data; names are pytorch-fid's."""

from typing import Literal, NamedTuple

NETWORK = "pt_inception-2015-12-05"
"""What reference statistics name as their network."""

DIMENSION = 2048
"""Of the features behind the last block."""

Pool = Literal["mean", "max", "halve"]
"""Over 3 x 3 pixels: mean or maximum around each, or the maximum with stride 2."""


class UnitSpec(NamedTuple):
    """A convolution, its normalisation and ReLU; `name` is pytorch-fid's.

    With a stride of 1 the output is as large as the input unless it is not padded.
    """

    name: str
    channels: int
    size: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: Literal["SAME", "VALID"] = "SAME"


class BranchSpec(NamedTuple):
    """Units in a row, behind a pooling or none; `ends` follow side by side."""

    units: tuple[UnitSpec, ...] = ()
    pool: Pool | None = None
    ends: tuple[UnitSpec, ...] = ()


class BlockSpec(NamedTuple):
    """Branches side by side; their channels are put together."""

    name: str
    branches: tuple[BranchSpec, ...]


def _halving(name: str, channels: int) -> UnitSpec:
    return UnitSpec(name, channels, (3, 3), 2, "VALID")


def _block_35(name: str, pooled: int) -> BlockSpec:
    """At 35 x 35 pixels."""
    return BlockSpec(
        name,
        (
            BranchSpec((UnitSpec("branch1x1", 64),)),
            BranchSpec(
                (UnitSpec("branch5x5_1", 48), UnitSpec("branch5x5_2", 64, (5, 5)))
            ),
            BranchSpec(
                (
                    UnitSpec("branch3x3dbl_1", 64),
                    UnitSpec("branch3x3dbl_2", 96, (3, 3)),
                    UnitSpec("branch3x3dbl_3", 96, (3, 3)),
                )
            ),
            BranchSpec((UnitSpec("branch_pool", pooled),), "mean"),
        ),
    )


def _block_17(name: str, inner: int) -> BlockSpec:
    """At 17 x 17 pixels."""
    return BlockSpec(
        name,
        (
            BranchSpec((UnitSpec("branch1x1", 192),)),
            BranchSpec(
                (
                    UnitSpec("branch7x7_1", inner),
                    UnitSpec("branch7x7_2", inner, (1, 7)),
                    UnitSpec("branch7x7_3", 192, (7, 1)),
                )
            ),
            BranchSpec(
                (
                    UnitSpec("branch7x7dbl_1", inner),
                    UnitSpec("branch7x7dbl_2", inner, (7, 1)),
                    UnitSpec("branch7x7dbl_3", inner, (1, 7)),
                    UnitSpec("branch7x7dbl_4", inner, (7, 1)),
                    UnitSpec("branch7x7dbl_5", 192, (1, 7)),
                )
            ),
            BranchSpec((UnitSpec("branch_pool", 192),), "mean"),
        ),
    )


def _block_8(name: str, pool: Literal["mean", "max"]) -> BlockSpec:
    """At 8 x 8 pixels."""

    def ends(stem: str) -> tuple[UnitSpec, UnitSpec]:
        return UnitSpec(f"{stem}a", 384, (1, 3)), UnitSpec(f"{stem}b", 384, (3, 1))

    return BlockSpec(
        name,
        (
            BranchSpec((UnitSpec("branch1x1", 320),)),
            BranchSpec((UnitSpec("branch3x3_1", 384),), ends=ends("branch3x3_2")),
            BranchSpec(
                (
                    UnitSpec("branch3x3dbl_1", 448),
                    UnitSpec("branch3x3dbl_2", 384, (3, 3)),
                ),
                ends=ends("branch3x3dbl_3"),
            ),
            BranchSpec((UnitSpec("branch_pool", 192),), pool),
        ),
    )


_HALVE_35 = BlockSpec(
    "Mixed_6a",
    (
        BranchSpec((_halving("branch3x3", 384),)),
        BranchSpec(
            (
                UnitSpec("branch3x3dbl_1", 64),
                UnitSpec("branch3x3dbl_2", 96, (3, 3)),
                _halving("branch3x3dbl_3", 96),
            )
        ),
        BranchSpec(pool="halve"),
    ),
)
_HALVE_17 = BlockSpec(
    "Mixed_7a",
    (
        BranchSpec((UnitSpec("branch3x3_1", 192), _halving("branch3x3_2", 320))),
        BranchSpec(
            (
                UnitSpec("branch7x7x3_1", 192),
                UnitSpec("branch7x7x3_2", 192, (1, 7)),
                UnitSpec("branch7x7x3_3", 192, (7, 1)),
                _halving("branch7x7x3_4", 192),
            )
        ),
        BranchSpec(pool="halve"),
    ),
)

BLOCKS = (
    BlockSpec(
        "",
        (
            BranchSpec(
                (
                    _halving("Conv2d_1a_3x3", 32),
                    UnitSpec("Conv2d_2a_3x3", 32, (3, 3), padding="VALID"),
                    UnitSpec("Conv2d_2b_3x3", 64, (3, 3)),
                )
            ),
        ),
    ),
    BlockSpec(
        "",
        (
            BranchSpec(
                (
                    UnitSpec("Conv2d_3b_1x1", 80),
                    UnitSpec("Conv2d_4a_3x3", 192, (3, 3), padding="VALID"),
                ),
                "halve",
            ),
        ),
    ),
    BlockSpec("", (BranchSpec(pool="halve"),)),
    _block_35("Mixed_5b", 32),
    _block_35("Mixed_5c", 64),
    _block_35("Mixed_5d", 64),
    _HALVE_35,
    _block_17("Mixed_6b", 128),
    _block_17("Mixed_6c", 160),
    _block_17("Mixed_6d", 160),
    _block_17("Mixed_6e", 192),
    _HALVE_17,
    _block_8("Mixed_7b", "mean"),
    _block_8("Mixed_7c", "max"),
)
"""The network from its input to its last pooling."""
