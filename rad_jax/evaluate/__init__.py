"""The paper's evaluation: data set x masks x method, to pictures and one JSON file."""

RESULTS = "results.json"
"""What an evaluation is written to, in its folder."""
