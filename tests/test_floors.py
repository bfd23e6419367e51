"""A file imports only from floors below its own, and folders on one floor don't import each other."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "sora_jax"
FLOORS = (
    ("ops",),
    ("nn", "diffusion", "parallel", "media"),
    ("models", "data"),
    ("weights", "train"),
    ("studio", "safety"),
    ("evals", "serve"),
    ("cli",),
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
FLOOR_OF["typing"] = -1  # the words that every signature is written in
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name != "__init__.py")


def rooms_imported(path: Path) -> dict[str, int]:
    """The package's folders that a file imports from, each with a line where it does."""
    rooms = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names]
                if node.module == "sora_jax"
                else [node.module]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = (name or "").split(".")
            if parts[0] == "sora_jax" and len(parts) > 1 and parts[1] in FLOOR_OF:
                rooms[parts[1]] = node.lineno
    return rooms


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_come_from_lower_floors(path):
    room = room_of(path)
    if room == "__main__":
        return
    assert room in FLOOR_OF, f"{path}: no floor is named for '{room}'"
    for other, line in rooms_imported(path).items():
        if other != room:
            assert FLOOR_OF[other] < FLOOR_OF[room], (
                f"{path}:{line}: '{room}' (floor {FLOOR_OF[room]}) imports '{other}' (floor {FLOOR_OF[other]})"
            )


def test_pure_rooms_stay_pure():
    """No Flax in ops or diffusion, no JAX in data, no module named after nothing."""
    for path in FILES:
        room, text = room_of(path), path.read_text()
        imported = {
            (name or "").split(".")[0]
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        }
        if room in ("ops", "diffusion"):
            assert "flax" not in imported, path
        if room == "data":
            assert "jax" not in imported, path
        assert path.stem not in ("utils", "util", "helpers", "common", "misc"), path


def test_files_stay_short():
    long = {str(path): n for path in FILES if (n := len(path.read_text().splitlines())) > 450}
    assert not long, f"split these: {long}"
