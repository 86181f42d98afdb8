"""Measure every random claim of the book over ten seeds, into book/seeds.json.

python book/_tools/seeds.py [--jobs 2] [CHAPTER ...]

A chapter is executed once for each seed, outside the cache. A claim that fails for a seed does not stop the run: its
value is kept in the table like the others, and the exit status is 1 after the table has been written.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from execute import BOOK, Kernels, Run, Task, Watch, choose, execute, side_by_side

CLAIM_MIME = "application/vnd.gankit.claim+json"
SEEDS = range(10)
TABLE = BOOK / "seeds.json"

Row = dict[str, Any]  # {"values": [ten numbers], "at_most": number or None, "at_least": number or None}
Table = dict[str, dict[str, Row]]  # chapter -> label -> row


def claims(notebook: Any) -> list[dict[str, Any]]:
    """The random claims among a notebook's outputs, in order."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    records = [output["data"][CLAIM_MIME] for output in outputs if CLAIM_MIME in output.get("data", {})]
    return [record for record in records if record.get("random")]


def faults(run: Run) -> list[str]:
    """What went wrong in a run apart from false claims, which the table shows."""
    found = [run.problem] if run.problem else []
    for cell in run.notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error" and output.ename != "ClaimError":
                found.append(f"{cell.id}: {output.ename}: {output.evalue}")
    labels = [record["label"] for record in claims(run.notebook)]
    return found + [f"claims {label} more than once" for label in sorted(set(labels)) if labels.count(label) > 1]


def tabulate(runs: Mapping[int, Run]) -> dict[str, Row]:
    """Label -> row for the runs of one chapter, by seed; None where a seed brought no value."""
    rows: dict[str, Row] = {}
    for position, seed in enumerate(sorted(runs)):
        for record in claims(runs[seed].notebook):
            bounds = {"at_most": record["at_most"], "at_least": record["at_least"]}
            row = rows.setdefault(record["label"], {"values": [None] * len(runs), **bounds})
            row["values"][position] = record["value"]
    return rows


def holds(row: Row) -> bool:
    """Whether a claim is true for every seed: a bool is true, a number within its bounds, and none is missing."""

    def true(value: float | bool | None) -> bool:
        if value is None or isinstance(value, bool):
            return value is True
        return (row["at_least"] is None or row["at_least"] <= value) and (
            row["at_most"] is None or value <= row["at_most"]
        )

    return all(map(true, row["values"]))


def broken(table: Table, chapters: Iterable[str]) -> list[str]:
    """The claims that fail for some seed, as lines for a person."""
    rows = [(name, label, row) for name in chapters for label, row in table.get(name, {}).items()]
    return [
        f"{name}: {label} does not hold for every seed: at_least={row['at_least']}, at_most={row['at_most']}, "
        f"measured {row['values']}"
        for name, label, row in rows
        if not holds(row)
    ]


def measure(names: Sequence[str], jobs: int, timeout: int) -> dict[str, dict[int, Run]]:
    """Execute the chapters once for each seed: chapter -> seed -> run."""

    def task(name: str, seed: int) -> Task:
        def run(watch: Watch, kernels: Kernels) -> Run:
            environment = {"GANKIT_SEED": str(seed)}
            return execute(
                name, environment=environment, timeout=timeout, allow_errors=True, watch=watch, kernels=kernels
            )

        return run

    jobs_by_name = {f"{name} seed {seed}": (name, seed) for name in names for seed in SEEDS}
    runs: dict[str, dict[int, Run]] = {name: {} for name in names}
    for title, run in side_by_side({title: task(*job) for title, job in jobs_by_name.items()}, jobs):
        name, seed = jobs_by_name[title]
        runs[name][seed] = run
    return runs


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure every random claim over ten seeds, into book/seeds.json.")
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help="adversarial/training-a-gan, say; default: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at the same time")
    parser.add_argument("--timeout", type=int, default=300, help="seconds that a cell may take")
    options = parser.parse_args(argv)

    names = choose(options.chapters)
    try:
        runs = measure(names, options.jobs, options.timeout)
    except KeyboardInterrupt:
        print("\nInterrupted; book/seeds.json is as it was.", file=sys.stderr)
        return 130
    table: Table = json.loads(TABLE.read_text("utf-8")) if options.chapters and TABLE.exists() else {}
    table |= {name: tabulate(runs[name]) for name in names}
    table = {name: rows for name, rows in table.items() if rows}
    TABLE.write_text(json.dumps(table, indent=2, sort_keys=True) + "\n", "utf-8")

    wrong = [f"{name} seed {seed}: {words}" for name in names for seed in SEEDS for words in faults(runs[name][seed])]
    wrong += broken(table, names)
    print(
        "\n".join([*wrong, f"{sum(map(len, table.values()))} random claims in book/seeds.json, {len(wrong)} problems"])
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
