"""Kinds of evaluation masks, and how much strokes may cover; importable without JAX."""

# The numbers are part of the random streams: never change one.
KIND_IDS = {"box": 0, "extreme": 1, "wide": 2, "medium": 3, "thin": 4, "perlin": 5}
KINDS = tuple(KIND_IDS)

PAPER_KINDS = ("box", "extreme", "wide")
"""Those of the paper's Table 1."""

MAX_COVERAGE = 0.5
"""What a hole of strokes covers of the image at most, as in LaMa's test sets."""
