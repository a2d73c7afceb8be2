"""Parquet files as pyarrow sees them."""

from pathlib import Path

import pyarrow.parquet as parquet


def offsets(folder):
    """{partition: offsets of all files, in order}, and the files' own columns agree with names."""
    found = {}
    for path in sorted(Path(folder).rglob("*.parquet")):
        table = parquet.read_table(path, columns=["partition", "offset"])
        partitions = set(table["partition"].to_pylist())
        assert len(partitions) == 1, f"{path} holds {partitions}"
        inside = sorted(table["offset"].to_pylist())
        first, last = map(int, path.stem.rsplit("-", 2)[1:])
        assert (inside[0], inside[-1]) == (first, last), f"{path}: {inside[0]}..{inside[-1]}"
        found.setdefault(partitions.pop(), []).extend(inside)
    return {partition: sorted(inside) for partition, inside in found.items()}


def rows(folder):
    return sum(parquet.read_metadata(path).num_rows for path in Path(folder).rglob("*.parquet"))


def holds_each_offset_once(folder, ends):
    """True when every offset below the ends is there, once."""
    wanted = {partition: list(range(end)) for partition, end in ends.items() if end}
    return offsets(folder) == wanted
