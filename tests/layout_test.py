"""The rooms of the package: what may import what. docs/architecture.md draws them."""

import ast
from pathlib import Path

import rad_jax

PACKAGE = Path(rad_jax.__file__).parent

# A room imports only from those above it; `conditioning` makes inputs of the network.
ORDER = (
    *("errors", "version", "typing", "progress"),
    *("files", "text", "runtime", "masks", "models", "chips", "diffusion"),
    *("baselines", "config", "checkpoints", "weight_files", "convert", "data"),
    *("prepare", "inference", "jobs", "metrics", "train", "evaluate", "sharing", "cli"),
)
MOST_FLOORS, MOST_ARROWS, MOST_LINES = 10, 126, 300


def modules() -> dict[str, ast.Module]:
    """Syntax trees by dotted name, the package's `__init__` and `__main__` apart."""
    paths = [path for path in PACKAGE.rglob("*.py") if "configs" not in path.parts]
    names = {path: path.relative_to(PACKAGE).with_suffix("").parts for path in paths}
    trees = {".".join(names[path]): ast.parse(path.read_text()) for path in paths}
    return {name: tree for name, tree in trees.items() if not name.startswith("__")}


def imported(tree: ast.Module, every: set[str]) -> set[str]:
    """Modules of the package that one imports, at its top or within functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            known = {name for name in full if name.removeprefix("rad_jax.") in every}
            found |= known or {node.module}
    ours = {name for name in found if name.split(".")[0] == "rad_jax"}
    return {name.removeprefix("rad_jax.") for name in ours}


def test_imports_follow_the_order():
    trees = modules()
    arrows = {(a, b) for a in trees for b in imported(trees[a], set(trees))}
    assert not {b for _, b in arrows} - set(trees), "the package's __init__ is imported"
    rooms = {(a.split(".")[0], b.split(".")[0]) for a, b in arrows}
    rooms = {(a, b) for a, b in rooms if a != b}
    assert {name.split(".")[0] for name in trees} == set(ORDER)
    back = {(a, b) for a, b in rooms if ORDER.index(a) < ORDER.index(b)}
    assert not back, "imports against the order"
    floors: dict[str, int] = {}
    for room in ORDER:  # no arrow points back, so what it imports has its floor
        floors[room] = 1 + max((floors[b] for a, b in rooms if a == room), default=0)
    assert max(floors.values()) <= MOST_FLOORS and len(rooms) <= MOST_ARROWS


def test_modules_import_no_module_that_imports_them():
    trees = modules()
    left = {name: imported(tree, set(trees)) for name, tree in trees.items()}
    while free := [a for a, targets in left.items() if not targets & left.keys()]:
        left = {a: targets for a, targets in left.items() if a not in free}
    assert not left, "a cycle"


def test_modules_are_short():
    lines = {path: path.read_text().count("\n") for path in PACKAGE.rglob("*.py")}
    long = {path: count for path, count in lines.items() if count > MOST_LINES}
    assert not long
