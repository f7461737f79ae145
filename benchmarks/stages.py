"""Seconds and peak memory of each stage of a finished run, read from Snakemake's own benchmark files.

python benchmarks/stages.py demo
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path


def main(folder: str) -> None:
    """Print a table, one line a stage: number of jobs, seconds in all, and the largest job's peak memory."""
    rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for file in Path(folder).rglob("benchmarks/*.tsv"):
        with file.open() as text:
            row = next(csv.DictReader(text, delimiter="\t"))
        rows[file.stem].append((float(row["s"]), _megabytes(row["max_rss"])))
    print(f"{'stage':<24}{'jobs':>5}{'seconds':>10}{'peak MB':>10}")
    for name, jobs in sorted(rows.items(), key=lambda item: -sum(s for s, _ in item[1])):
        print(f"{name:<24}{len(jobs):>5}{sum(s for s, _ in jobs):>10.1f}{max(mb for _, mb in jobs):>10.0f}")
    print(f"{'all':<24}{sum(map(len, rows.values())):>5}{sum(s for jobs in rows.values() for s, _ in jobs):>10.1f}")


def _megabytes(text: str) -> float:
    """Jobs shorter than a sampling interval have no memory figure."""
    return float(text) if text not in ("NA", "-") else 0.0


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "results")
