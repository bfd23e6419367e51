"""Checkpoints of a run: the train state and the position in the data, saved together, restored to the bit (Orbax).

Orbax writes to a temporary name and renames, so a killed save leaves the checkpoint before it as the newest.
"""

import fcntl
import json
from pathlib import Path
from typing import IO, Any

import jax
import orbax.checkpoint as ocp

from sora_jax.train.state import TrainState


class Checkpoints:
    """The checkpoints under `folder`. `config` is the run's resolved config; one folder holds one config.

    Raises ValueError if `folder` was made with another config, naming the fields that differ. Fields in `may_change`
    (top-level names, such as `steps`) don't count. So it does if another process trains in `folder`.
    """

    def __init__(
        self, folder: Path, config: dict[str, Any], *, keep: int = 2, may_change: tuple[str, ...] = ()
    ):
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder) if jax.process_index() == 0 else None
        try:
            self._check_config(folder / "config.json", config, may_change)
        except ValueError:
            self._unlock()
            raise
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(folder / "checkpoints", options=options)

    @staticmethod
    def _check_config(path: Path, config: dict[str, Any], may_change: tuple[str, ...]) -> None:
        config = json.loads(json.dumps(config))
        if path.exists():
            found = _flat(json.loads(path.read_text()))
            wanted = _flat(config)
            names = sorted(
                name
                for name in found.keys() | wanted.keys()
                if found.get(name) != wanted.get(name) and name.split(".")[0] not in may_change
            )
            if names:
                first = names[0]
                raise ValueError(
                    f"{path.parent} holds a run with another config ({', '.join(names[:5])}; there {first} is "
                    f"{found.get(first)}, here {wanted.get(first)}): give the same fields, or another --workdir."
                )
        if jax.process_index() == 0:
            temporary = path.with_name(f".{path.name}.new")
            temporary.write_text(json.dumps(config, indent=2))
            temporary.replace(path)

    @property
    def newest(self) -> int | None:
        """The step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def save(self, state: TrainState, data_state: dict[str, Any]) -> None:
        """Starts a save in the background; the one before it is finished first."""
        step = int(state.step)
        if step == self.newest:
            return
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(data_state))
        self._manager.save(step, args=items, force=True)

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The newest checkpoint, on the shardings of `like` (arrays or ShapeDtypeStructs with shardings)."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore())
        restored = self._manager.restore(self.newest, args=items)
        return restored["state"], restored["data"]

    def close(self) -> None:
        """Waits until what was started is on disk."""
        self._manager.wait_until_finished()
        self._manager.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock:
            self._lock.close()


def _lock(folder: Path) -> IO[str]:
    """An open file whose lock ends with the process, however it ends."""
    file = (folder / ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ValueError(
            f"another run is training in {folder}: stop it first, or give another --workdir."
        ) from error
    return file


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(tree, dict):
        return {k: v for key, value in tree.items() for k, v in _flat(value, f"{prefix}{key}.").items()}
    return {prefix.rstrip("."): tree}
