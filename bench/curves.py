#!/usr/bin/env python3
"""Compares the curves of runs in two precisions: is the mean of one inside the spread of the other?

  bench/curves.py --f32 runs/f32-1 runs/f32-2 runs/f32-3 --bf16 runs/bf16-1 runs/bf16-2 runs/bf16-3 --svg docs/bf16.svg

Reads each run's metrics.jsonl; prints a line for every evaluation and the verdict; draws both curves.
Needs: pip install matplotlib (for --svg)
"""

import argparse
import json
import pathlib
import statistics


def curves(run):
    """Loss of every step; training and validation loss of every evaluation: {step: value} each."""
    losses, train, validation = {}, {}, {}
    for line in (pathlib.Path(run) / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["event"] == "step":
            losses[record["step"]] = record["loss"]
        elif record["event"] == "evaluation":
            train[record["step"]] = record["train_loss"]
            validation[record["step"]] = record["val_loss"]
    return {"step": losses, "train": train, "validation": validation}


def compare(name, f32, bf16):
    """Rows (step, least, mean and most of f32, mean of bf16) where all runs have a value."""
    steps = sorted(set.intersection(*(set(run[name]) for run in f32 + bf16)))
    rows = []
    for step in steps:
        values = [run[name][step] for run in f32]
        rows.append((step, min(values), statistics.mean(values), max(values),
                     statistics.mean(run[name][step] for run in bf16)))
    return rows


def outside(rows):
    return [row for row in rows if not row[1] <= row[4] <= row[3]]


def draw(path, rows):
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name, colour in (("train", "C0"), ("validation", "C1")):
        steps = [row[0] for row in rows[name]]
        axes.fill_between(steps, [row[1] for row in rows[name]], [row[3] for row in rows[name]], color=colour,
                          alpha=0.25, label=f"{name}, f32: spread of the seeds")
        axes.plot(steps, [row[4] for row in rows[name]], color=colour, marker=".", label=f"{name}, bf16: mean")
    axes.set_xlabel("step")
    axes.set_ylabel("loss, nats a token")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--f32", nargs="+", required=True, metavar="RUN")
    parser.add_argument("--bf16", nargs="+", required=True, metavar="RUN")
    parser.add_argument("--svg", metavar="FILE")
    args = parser.parse_args()
    f32, bf16 = [curves(run) for run in args.f32], [curves(run) for run in args.bf16]
    rows = {name: compare(name, f32, bf16) for name in ("step", "train", "validation")}
    for name in ("train", "validation"):
        print(f"{name}: step, f32 least, mean, most, bf16 mean")
        for step, least, mean, most, other in rows[name]:
            print(f"  {step:4} {least:.4f} {mean:.4f} {most:.4f}  {other:.4f} ({100 * (other / mean - 1):+.2f} %)")
    for name in rows:
        beyond = outside(rows[name])
        farthest = max((abs(row[4] / row[2] - 1) for row in rows[name]), default=0.0)
        print(f"{name}: bf16's mean is outside f32's spread at {len(beyond)} of {len(rows[name])} steps; "
              f"farthest from f32's mean: {100 * farthest:.2f} %")
    if args.svg:
        draw(args.svg, rows)


if __name__ == "__main__":
    main()
