"""Parameter trees as safetensors files, and files that appear whole or not at all.

A tensor's name is its path in the tree, joined by "/". No pickle is read or written.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (gives NumPy the bfloat16 that safetensors asks for by name)
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

Shapes = Mapping[str, tuple[int, ...]]
_NAMED = 3  # tensors that an error names before it only counts the rest


def shapes_of(params: Any) -> dict[str, tuple[int, ...]]:
    """The shape of each array (or `ShapeDtypeStruct`) of a tree, by its "/"-joined path, sorted."""
    flat: dict[str, Any] = dict(flatten_dict(params, sep="/"))
    return {name: tuple(flat[name].shape) for name in sorted(flat)}


def check_shapes(found: Shapes, expected: Shapes, where: str) -> None:
    """Raises one ValueError that names the tensors missing, unknown and of another shape than `expected`."""
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    wrong = [
        f"{name} {list(found[name])} for {list(expected[name])}"
        for name in expected
        if name in found and tuple(found[name]) != tuple(expected[name])
    ]
    kinds = (("lacks", missing), ("has unknown", unknown), ("has wrong shapes:", wrong))
    problems = [f"{kind} {_first(names)}" for kind, names in kinds if names]
    if problems:
        raise ValueError(f"{where} doesn't fit its config: it {'; it '.join(problems)}.")


def _first(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def write_tensors(
    path: Path, params: Any, dtype: Any = None, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a tree of arrays, its floating-point ones cast to `dtype` (None: each as it is).

    Raises ValueError when a number is not finite, or no longer is after the cast.
    """
    flat = {}
    for name, leaf in sorted(flatten_dict(params, sep="/").items()):
        array = np.asarray(leaf)
        # bfloat16 is no subtype of NumPy's floating types, so it is told by elimination.
        if array.dtype.kind not in "biu":
            if dtype is not None:
                with np.errstate(over="ignore"):
                    array = array.astype(dtype)
            if not np.isfinite(array).all():
                raise ValueError(
                    f"{name} holds numbers that {array.dtype} can't: it diverged, or needs a wider dtype."
                )
        flat[name] = np.ascontiguousarray(array).reshape(array.shape)
    save_file(flat, path, metadata=dict(metadata or {}))


class StoredTensor:
    """One tensor of an open file, of which only the part that is asked for is read."""

    def __init__(self, view: Any):
        self._view = view
        self.shape: tuple[int, ...] = tuple(view.get_shape())

    def __getitem__(self, index: Any) -> np.ndarray:
        return self._view[index]


class TensorFile(Mapping[str, StoredTensor]):
    """A safetensors file, opened: its header is read and checked against its size, its tensors are not yet
    read.

    Raises ValueError when the file is absent, cut short, or not what its header says.
    """

    def __init__(self, path: Path):
        self.path = path
        if not path.is_file():
            raise ValueError(f"{path} is missing: the folder is no whole checkpoint.")
        try:
            self._file = safe_open(path, framework="numpy")
        except (SafetensorError, OSError) as error:
            reason = str(error).removeprefix("Error while deserializing header: ")
            raise ValueError(
                f"{path} is cut short or no safetensors file ({reason}): get it anew."
            ) from error
        self.metadata: dict[str, str] = self._file.metadata() or {}
        self._tensors = {name: StoredTensor(self._file.get_slice(name)) for name in sorted(self._file.keys())}
        self.shapes = {name: tensor.shape for name, tensor in self._tensors.items()}

    def __getitem__(self, name: str) -> StoredTensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def read(self, dtype: Any = np.float32) -> dict[str, Any]:
        """The tree of arrays, floating-point ones cast to `dtype` (None: each as stored)."""
        return unflatten_dict({name: self.tensor(name, dtype) for name in self.shapes}, sep="/")

    def tensor(self, name: str, dtype: Any = None) -> np.ndarray:
        """One array, cast to `dtype` if it is of floating point (None: as stored)."""
        array = self._file.get_tensor(name)
        cast = dtype is not None and array.dtype.kind not in "biu"
        return array.astype(dtype, copy=False) if cast else array


def write_files(folder: Path, writers: Mapping[str, Callable[[Path], object]]) -> None:
    """Writes files into `folder` so that they appear together, the last one last, or none does.

    Each is written under a hidden name, synced and renamed at the end. The last name's old file goes before
    the first rename, so a folder that holds it holds one whole set. On an error the folder is as it was, and
    isn't made.
    """
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    parts = {name: folder / f".{name}.part" for name in writers}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, write in writers.items():
            if (folder / name).is_dir():
                raise IsADirectoryError(None, "a folder lies where the file should", str(folder / name))
            write(parts[name])
            parts[name].chmod(0o644)  # safetensors leaves its files to their owner alone
            _sync(parts[name])
    except BaseException:
        for part in parts.values():
            with suppress(OSError):
                part.unlink(missing_ok=True)
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
        raise
    (folder / list(writers)[-1]).unlink(missing_ok=True)
    for name, part in parts.items():
        os.replace(part, folder / name)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
