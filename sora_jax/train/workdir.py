"""A run's folder: of one config, and of one process (of several, one group) at a time."""

import dataclasses
import fcntl
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

import jax


def lock(folder: Path) -> IO[str]:
    """An open file whose lock ends with the process, however it ends. ValueError if another run holds it."""
    file = (folder / ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ValueError(
            f"another run is training in {folder}: stop it first, or give another --workdir."
        ) from error
    return file


def keep_config(
    folder: Path, config: Mapping[str, Any], defaults: Mapping[str, Any], may_change: Collection[str]
) -> None:
    """Compares `config` with the one that `folder` was made with, and writes it there as config.json.

    A field that the folder's doesn't have, since the code hadn't it yet, counts as at its default in `defaults` (flat,
    as `defaults_of` gives them). Fields in `may_change` (top-level names) don't count.

    Raises ValueError naming the fields that differ.
    """
    path = folder / "config.json"
    config, defaults = json.loads(json.dumps([config, defaults]))
    if path.exists():
        found, wanted = flat(json.loads(path.read_text())), flat(config)
        found = {name: found.get(name, defaults.get(name)) for name in found.keys() | wanted.keys()}
        names = sorted(
            name for name in found if found[name] != wanted.get(name) and name.split(".")[0] not in may_change
        )
        if names:
            first = names[0]
            raise ValueError(
                f"{folder} holds a run with another config ({', '.join(names[:5])}; there {first} is "
                f"{found[first]}, here {wanted.get(first)}): give the same fields, or another --workdir."
            )
    if jax.process_index() == 0:
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(json.dumps(config, indent=2))
        temporary.replace(path)


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """A tree of dicts as one, "a.b" naming what lies in it."""
    if isinstance(tree, dict):
        return {k: v for key, value in tree.items() for k, v in flat(value, f"{prefix}{key}.").items()}
    return {prefix.rstrip("."): tree}


def defaults_of(config: Any) -> dict[str, Any]:
    """The defaults of a config (a dataclass) and of those in it, flat; fields without one are left out."""
    found = {}
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), field.default
        if dataclasses.is_dataclass(value):
            found |= {f"{field.name}.{name}": inner for name, inner in defaults_of(value).items()}
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            default = dataclasses.asdict(default)
        if default is not dataclasses.MISSING and not (default is None and dataclasses.is_dataclass(value)):
            found |= flat({field.name: default})
    return found
