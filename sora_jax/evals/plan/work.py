"""What a compiled program computes and moves on one device: FLOPs of its products, bytes between chip and main memory.

Loops count as often as they turn. Bytes are what each instruction reads and writes of the main memory, as XLA placed
its arrays; of an array that is only sliced or updated in place, the slice. Kernels written by hand are custom calls to
XLA, whose work isn't in its text: `sora_jax.train.flops` counts it from their grids.
"""

import math
import re
from collections.abc import Sequence

from sora_jax.evals.plan.hlo import Array, Instruction, Program

__all__ = ["memory_bytes", "product_flops"]

FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call"),
    *("after-all", "partition-id", "replica-id", "iota", "async-start", "async-update", "opt-barrier"),
}
SLICES = ("dynamic-slice", "slice", "gather")


def product_flops(program: Program) -> float:
    """FLOPs of the program's matrix products and convolutions on one device, 2 a multiplication and addition."""
    return sum(
        runs * _product(computation, instruction)
        for name, runs in program.runs.items()
        for computation in (program.computations[name],)
        for instruction in computation.values()
        if instruction.kind in ("dot", "convolution")
    )


def _product(computation: dict[str, Instruction], instruction: Instruction) -> float:
    out = math.prod(instruction.arrays[0].sizes)
    left, right = (_first(computation, name) for name in instruction.operands[:2])
    if instruction.kind == "dot":
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
        axes = [int(i) for i in contracted[1].split(",") if i] if contracted else []
        return 2.0 * out * math.prod(left[i] for i in axes)
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    assert labels, instruction
    sizes, kernel = instruction.arrays[0].sizes, labels[2]
    flops = 2.0 * right[kernel.index("i")] * sizes[labels[3].index("b")] * sizes[labels[3].index("f")]
    window = _window(instruction.attributes)
    for i in (label for label in labels[3] if label.isdigit()):
        options = {key: values[int(i)] for key, values in window.items() if int(i) < len(values)}
        flops *= _taps(left[labels[1].index(i)], right[kernel.index(i)], sizes[labels[3].index(i)], **options)
    return flops


def _first(computation: dict[str, Instruction], name: str) -> tuple[int, ...]:
    return computation[name].arrays[0].sizes


def _window(attributes: str) -> dict[str, list]:
    """A convolution's strides, padding and dilations, one a spatial axis."""
    found = re.search(r"window=\{([^}]*)\}", attributes)
    read: dict[str, list] = {}
    for key, values in re.findall(r"(\w+)=([\d_x\-]+)", found[1] if found else ""):
        if key in ("stride", "pad", "lhs_dilate", "rhs_dilate"):
            parts = values.split("x")
            read[key] = [int(part.split("_")[0]) if key == "pad" else int(part) for part in parts]
    return read


def _taps(size, taps, out, stride=1, pad=0, lhs_dilate=1, rhs_dilate=1) -> int:
    """Pairs of a place that is given and a tap that meets an entry there, not padding or a hole between entries.

    TPU's compiler writes batched products as convolutions over the batch, most of whose taps meet nothing.
    """
    last = (size - 1) * lhs_dilate
    met = 0
    for tap in range(taps):
        # Places p with 0 <= p·stride + tap·dilation - pad <= last, on an entry.
        offset = tap * rhs_dilate - pad
        low = max(0, -(offset // stride)) if offset < 0 else 0
        high = min(out - 1, (last - offset) // stride)
        if high < low:
            continue
        if lhs_dilate == 1:
            met += high - low + 1
        else:
            met += sum((p * stride + offset) % lhs_dilate == 0 for p in range(low, high + 1))
    return met


def memory_bytes(program: Program) -> float:
    """Bytes that one device reads from and writes to its main memory."""
    fused = {
        called
        for computation in program.computations.values()
        for one in computation.values()
        if one.kind == "fusion"
        for called in re.findall(r"calls=%?([\w.\-]+)", one.attributes)
    }
    return sum(
        runs * _moved(program, program.computations[name], instruction)
        for name, runs in program.runs.items()
        if name not in fused
        for instruction in program.computations[name].values()
    )


def _moved(program: Program, computation: dict[str, Instruction], one: Instruction) -> float:
    if one.kind in FREE or one.kind.endswith("-done") or '"AllocateBuffer"' in one.attributes:
        return 0
    if '"tpu_custom_call"' in one.attributes:
        return 0  # a kernel
    if one.kind.endswith("-start"):
        return _main(one.arrays)  # what is read is among what it gives
    operands = [computation[name].arrays for name in one.operands if name in computation]
    if one.kind in SLICES:
        return 2 * _main(one.arrays)
    if one.kind == "dynamic-update-slice":
        return 2 * _main(operands[1])
    if one.kind == "fusion":
        called = re.search(r"calls=%?([\w.\-]+)", one.attributes)
        if called and called[1] in program.computations:
            return _fusion(program.computations[called[1]], one, operands)
    return _main(one.arrays) + sum(map(_main, operands))


def _main(arrays: Sequence[Array]) -> int:
    return sum(array.bytes for array in arrays if array.memory == 0)


def _fusion(inside: dict[str, Instruction], one: Instruction, operands: list) -> float:
    users: dict[str, list[Instruction]] = {}
    for instruction in inside.values():
        for name in instruction.operands:
            users.setdefault(name, []).append(instruction)
    total = 0.0
    for instruction in inside.values():
        if instruction.kind != "parameter":
            continue
        arrays = operands[int(instruction.text)]
        total += min(_main(arrays), _read(instruction, users, arrays))
    roots = [instruction for instruction in inside.values() if instruction.root]
    given = [inside[name] for name in roots[0].operands] if roots[0].kind == "tuple" else roots
    for array, instruction in zip(one.arrays, given, strict=False):
        if array.memory:
            continue
        updates = _through(instruction, inside)
        total += inside[updates.operands[1]].arrays[0].bytes if updates is not None else array.bytes
    return total


def _read(parameter: Instruction, users: dict[str, list[Instruction]], arrays: Sequence[Array]) -> float:
    """Bytes that a fusion reads of a parameter: of one that is only sliced or updated in place, the slices."""
    total = 0.0
    for user in users.get(parameter.name, []):
        if user.kind in SLICES and user.operands[0] == parameter.name:
            total += user.arrays[0].bytes
        elif user.kind == "bitcast":
            total += _read(user, users, arrays)
        elif not (user.kind == "dynamic-update-slice" and user.operands[0] == parameter.name):
            return _main(arrays)
    return total


def _through(instruction: Instruction, inside: dict[str, Instruction]) -> Instruction | None:
    """The update in place that a fusion's result is, if it is one."""
    while instruction.kind == "bitcast":
        instruction = inside[instruction.operands[0]]
    return instruction if instruction.kind == "dynamic-update-slice" else None
