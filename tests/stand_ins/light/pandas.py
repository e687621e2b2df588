"""Stands in for pandas in the process that asks a language model: it reads one table, in no time."""

import csv
from pathlib import Path


class Table(list):
    def to_dict(self, orient):
        return list(self)


def read_csv(path, keep_default_na):
    assert keep_default_na is False
    numbers = ("p_val", "avg_log2FC", "pct.1", "pct.2", "p_val_adj")
    with Path(path).open(newline="") as file:
        return Table(
            {name: float(value) if name in numbers else value for name, value in row.items()}
            for row in csv.DictReader(file)
        )
