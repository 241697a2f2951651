"""Reads a run's event files with TensorBoard's own reader and compares them with the run's metrics.jsonl.

    python3 golden/check_tensorboard.py RUN

Needs the package tensorboard. Ends with code 1 at the first difference.
"""

import json
import math
import pathlib
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def f32(x):
    """x as TensorBoard has it; json has null for what is not finite."""
    return math.nan if x is None else struct.unpack("f", struct.pack("f", x))[0]


def same(a, b):
    return a == b or (math.isnan(a) and math.isnan(b))


run = pathlib.Path(sys.argv[1])
records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
# All scalars and texts, none left out by sampling.
events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
events.Reload()

scalars = {
    "loss/train_step": ("step", "loss"),
    "lr": ("step", "lr"),
    "tokens_per_second": ("step", "tokens_per_second"),
    "grad_norm": ("step", "grad_norm"),
    "loss/train": ("evaluation", "train_loss"),
    "loss/validation": ("evaluation", "val_loss"),
}
n_compared = 0
tags = events.Tags()
for tag, (event, field) in scalars.items():
    expected = [(r["step"], f32(r[field])) for r in records if r["event"] == event and field in r]
    found = [(e.step, e.value) for e in events.Scalars(tag)] if tag in tags["scalars"] else []
    assert len(found) == len(expected), f"{tag}: {len(found)} events, {len(expected)} records"
    for (step, value), (at, wanted) in zip(found, expected):
        assert step == at and same(value, wanted), f"{tag}: step {step}: {value}, expected {wanted} at {at}"
    n_compared += len(found)

samples = [(r["step"], r["text"]) for r in records if r["event"] == "sample"]
found = []
if samples:
    metadata = events.SummaryMetadata("sample")
    assert metadata.plugin_data.plugin_name == "text", metadata
    found = [(e.step, e.tensor_proto.string_val[0].decode()) for e in events.Tensors("sample")]
assert found == samples, f"samples: {found}, expected {samples}"
print(f"{n_compared} scalars of {len(tags['scalars'])} tags and {len(samples)} texts agree with metrics.jsonl")
