"""The traffic between the chips of a compiled program in one call, read from its HLO text.

Bytes are those that a chip sends if each collective runs as a ring over its group of n chips: (n - 1) / n of
the whole array for an all-gather, a reduce-scatter or an all-to-all, and twice that for an all-reduce. A
collective in a loop counts once per iteration.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


class Traffic(NamedTuple):
    """Of one kind of collective."""

    calls: int
    bytes: int
    """That a chip sends."""


@dataclass(frozen=True)
class _Instruction:
    name: str
    operation: str
    shape: str
    line: str

    @property
    def operands(self) -> list[str]:
        return re.findall(
            r"%([\w.-]+)", re.split(rf" {self.operation}\(", self.line, maxsplit=1)[1].split(")")[0]
        )


_Computations = dict[str, list[_Instruction]]


def traffic(hlo: str) -> dict[str, Traffic]:
    """The collectives of a program by kind.

    Args:
        hlo: `compiled.as_text()`.

    Raises:
        ValueError: the number of iterations of a loop around a collective is unknown.
    """
    computations, entry = _computations(hlo)
    chips = int(found[1]) if (found := re.search(r"num_partitions=(\d+)", hlo)) else 1
    times = _times(computations, entry)
    # The compiler may spread a collective over several fusions, which keep its channel.
    seen = {}
    for name, instructions in computations.items():
        for number, instruction in enumerate(instructions):
            kind = instruction.operation.removesuffix("-start")
            if kind not in KINDS or not times[name]:
                continue
            sliced = name.startswith("all-reduce-scatter")  # a TPU's reduce-scatter: a fusion of two
            kind = "reduce-scatter" if sliced and kind == "all-reduce" else kind
            channel = re.search(r"channel_id=(\d+)", instruction.line)
            seen[channel[1] if channel else (name, number)] = (
                kind,
                times[name],
                _sent(kind, instruction, chips, sliced),
            )
    counts: Counter[str] = Counter()
    sent: defaultdict[str, float] = defaultdict(float)
    for kind, often, each in seen.values():
        counts[kind] += often
        sent[kind] += often * each
    return {kind: Traffic(counts[kind], round(sent[kind])) for kind in KINDS if counts[kind]}


def _computations(hlo: str) -> tuple[_Computations, str]:
    computations: _Computations = {}
    entry, current = "", ""
    for line in hlo.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.-]+) \(.*\{$", line):
            current = head[2]
            computations[current] = []
            entry = current if head[1] else entry
        elif part := re.match(r"\s+(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z0-9-]*)\(", line):
            computations[current].append(_Instruction(part[1], part[3], part[2], line))
    return computations, entry


def _times(computations: _Computations, entry: str) -> Counter[str]:
    """Number of runs of each computation in one call of the program."""
    times: Counter[str] = Counter()

    def walk(name: str, often: int) -> None:
        times[name] += often
        for instruction in computations.get(name, []):
            for callee, rounds in _callees(instruction, computations):
                walk(callee, often * rounds)

    walk(entry, 1)
    return times


def _callees(instruction: _Instruction, computations: _Computations) -> Iterator[tuple[str, int]]:
    line, rounds = instruction.line, 1
    if instruction.operation == "while":
        rounds = _rounds(line, computations)
    for name in re.findall(r"(?:calls|body|condition|(?:true|false)_computation)=%?([\w.-]+)", line):
        yield name, rounds
    for names in re.findall(r"branch_computations=\{([^}]*)\}", line):
        yield from ((name.strip(" %"), 1) for name in names.split(","))


def _rounds(line: str, computations: _Computations) -> int:
    """Of a loop that counts from 0 to a constant: a scan, or a product in steps, of which one may do two."""
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', line):
        return int(known[1])
    condition, body = (re.search(rf"{part}=%?([\w.-]+)", line) for part in ("condition", "body"))
    assert condition is not None
    assert body is not None
    limits = _constants(computations[condition[1]])
    if len(limits) != 1:
        raise ValueError(f"loop {condition[1]}: its text does not tell how often it runs")
    (limit,) = limits.values()
    reads = (each.line for each in computations[condition[1]] if each.operation == "get-tuple-element")
    place = re.search(r" index=(\d+)", "".join(reads))
    return math.ceil(limit / _step(computations[body[1]], int(place[1]) if place else 0))


def _step(body: list[_Instruction], place: int) -> int:
    """By how much a loop's body raises the counter, which has this place in the loop's state."""
    constants, named = _constants(body), {instruction.name: instruction for instruction in body}
    result = named.get((body[-1].operands + [""] * (place + 1))[place])
    if body[-1].operation != "tuple" or result is None or result.operation != "add":
        return 1
    return max((constants[name] for name in result.operands if name in constants), default=1)


def _constants(instructions: list[_Instruction]) -> dict[str, int]:
    return {
        each.name: int(number[1])
        for each in instructions
        if (number := re.search(r" constant\((\d+)\)", each.line))
    }


def _sent(kind: str, instruction: _Instruction, chips: int, sliced: bool) -> float:
    size, line = _bytes(kind, instruction), instruction.line
    if kind == "collective-permute":
        pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", line)
        return size * (pairs[1].count("{") if pairs else chips) / chips
    n = _group(line, chips)
    if kind == "reduce-scatter" and not sliced:  # its result is a share
        size *= n
    return size * (n - 1) / n * (2 if kind == "all-reduce" else 1)


def _bytes(kind: str, instruction: _Instruction) -> float:
    """Of the result; that of a `-start` lies next to the operands and flags."""
    sizes = [
        math.prod(map(int, filter(None, dimensions.split(",")))) * _itemsize(dtype)
        for dtype, dimensions in re.findall(r"([a-z]+\d*\w*)\[([\d,]*)\]", instruction.shape)
    ]
    if instruction.operation == "collective-permute-start":
        return sizes[0]
    if instruction.operation == "all-gather-start":
        return sum(sizes[len(sizes) // 2 :])
    return sum(sizes)


def _itemsize(dtype: str) -> float:
    bits = re.match(r"[a-z]+(\d+)", dtype)
    return int(bits[1]) / 8 if bits else 1


def _group(line: str, chips: int) -> int:
    """Chips that take part in one exchange, in any of the forms in which the compiler writes the groups."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return listed[1].count(",") + 1
    if grid := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(grid[1])
    if mesh := re.search(r"replica_groups=mesh\[(.*?)\].*?\{(.*?)\}", line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        parts = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", mesh[2])
        return math.prod(int(part or sizes[axis]) for axis, part in parts)
    return chips
