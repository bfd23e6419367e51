"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic", "check_place"]


def check_place(path: Path) -> Path:
    """`path` if a file can be written there; OSError for a folder that is missing or cannot be written to."""
    folder = path.parent
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the name of a file")
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder {folder} does not exist: create it, or write somewhere else")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"the folder {folder} cannot be written to: choose another place")
    return path


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name when the block ends well, and goes if it doesn't."""
    check_place(path)
    temporary = path.with_name(f".{path.name[:80]}.{os.getpid()}.{os.urandom(4).hex()}.part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(f"{path} could not be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)
