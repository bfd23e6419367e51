"""Draws what a chip sends in a step against the number of chips, each chip's work staying the same.

python docs/make_weak_scaling.py experiments/train/wan2_1_1_3b_480p.py docs/weak_scaling.png v6e-16 v6e-64 v6e-256

Each topology's plan is compiled, which takes minutes, and kept beside the picture as JSON: the same command again draws
what is there and compiles what is missing. Needs the [tpu] and [plots] extras, and no TPU.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import matplotlib.pyplot as plt

from sora_jax.evals.plan.plan import make_plan
from sora_jax.evals.plan.program import load_work, mesh_of_work, with_settings
from sora_jax.evals.plan.topology import parse_topology
from sora_jax.parallel import MeshConfig


def scaled(experiment: Path, topology):
    """The experiment with as many clips a chip as it has on its own mesh: more slices on the data axis, more chips of a
    slice on fsdp."""
    work = load_work(experiment)
    mesh = mesh_of_work(work)
    own = mesh.data * mesh.fsdp * mesh.context * mesh.tensor
    fsdp = topology.devices // topology.slices // (mesh.context * mesh.tensor)
    batch = work.batch_size * topology.devices // own
    larger = MeshConfig(
        data=topology.slices, fsdp=fsdp, context=mesh.context, tensor=mesh.tensor, attention=mesh.attention
    )
    return with_settings(work, mesh=larger, batch=batch)


def main(experiment: str, picture: str, *names: str) -> None:
    kept = Path(picture).with_suffix(".json")
    records = json.loads(kept.read_text()) if kept.is_file() else {}
    for name in names:
        topology = parse_topology(name)
        if topology.name not in records:
            plan = make_plan(scaled(Path(experiment), topology), topology, experiment)
            records[topology.name] = plan.record()
            temporary = kept.with_suffix(".part")
            temporary.write_text(json.dumps(records, indent=1) + "\n")
            temporary.replace(kept)
            print(topology.name, plan.collective_bytes, file=sys.stderr)
    shown = sorted((record for record in records.values() if record["fits"]), key=lambda one: one["chips"])
    figure, panel = plt.subplots(figsize=(5.5, 3.4))
    for network, label in (("ici", "within a slice"), ("dcn", "between slices")):
        sent = [sum(record["collective_bytes"][network].values()) / 1e9 for record in shown]
        panel.plot([record["chips"] for record in shown], sent, marker="o", label=label)
    panel.set_xscale("log", base=2)
    panel.set(xlabel="chips", ylabel="GB that a chip sends in a step", ylim=(0, None))
    panel.grid(alpha=0.3)
    panel.legend()
    figure.tight_layout()
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
