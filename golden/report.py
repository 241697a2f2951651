#!/usr/bin/env python3
"""The report's script: the book's GPTModel on a text, with a trace of every figure and sample.

  report.py --r50k r50k_base.tiktoken --text ../shared/data/the-verdict.txt

With its defaults this is the report's run (163M parameters, ten epochs; 13 minutes on two cores),
which `calame reproduce` repeats; report.json is the trace. make.py says where the vocabulary comes
from. What was read is written on after every epoch, so a run that is stopped has given its part.

  time report.py --r50k r50k_base.tiktoken --text the-verdict.txt --out trace.json --files DIR

also leaves the report's files in DIR, loss-plot.pdf and gpt-model.pt: its whole job, to be timed
beside `time calame train --data the-verdict.txt`. Needs matplotlib for that.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import torch

sys.dont_write_bytecode = True
from book_gpt import GPTModel  # noqa: E402
from book_train import greedy, loaders, train  # noqa: E402
from make import load_r50k  # noqa: E402

BOOK = {
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "qkv_bias": False,
    "tie_word_embeddings": False,
}
PROMPT, N_TOKENS = "Every effort moves you", 50


class Trace:
    def __init__(self, out, head, sample):
        self.out, self.sample = out, sample
        self.trace = head | {"losses": [], "evaluations": [], "samples": []}

    def batch(self, step, loss, _):
        self.trace["losses"].append(round(loss, 5))
        print(f"step {step}: {loss:.5f}", flush=True)

    def evaluation(self, step, train_loss, val_loss):
        losses = {"train": round(train_loss, 5), "val": round(val_loss, 5)}
        self.trace["evaluations"].append({"step": step} | losses)
        print(f"step {step}: train {train_loss:.3f}, val {val_loss:.3f}", flush=True)

    def epoch_end(self, epoch):
        self.trace["samples"].append({"epoch": epoch, "text": self.sample()})
        print(repr(self.trace["samples"][-1]["text"]), flush=True)
        self.write()

    def write(self):
        """One line for each key but the lists of objects, which take one for each object."""
        rows = []
        for key, value in self.trace.items():
            if value and isinstance(value, list) and isinstance(value[0], dict):
                inside = ",\n    ".join(json.dumps(item) for item in value)
                rows.append(f'  "{key}": [\n    {inside}\n  ]')
            else:
                rows.append(f'  "{key}": {json.dumps(value)}')
        self.out.write_text("{\n" + ",\n".join(rows) + "\n}\n")


def write_files(folder, trace, model):
    """The plot and the weights that the report's script leaves."""
    import matplotlib

    matplotlib.use("pdf")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    folder.mkdir(parents=True, exist_ok=True)
    evaluations = trace["evaluations"]
    steps = [evaluation["step"] for evaluation in evaluations]
    epochs = [step * len(trace["samples"]) / len(trace["losses"]) for step in steps]
    figure, axis = plt.subplots(figsize=(5, 3))
    axis.plot(epochs, [evaluation["train"] for evaluation in evaluations], label="Training loss")
    axis.plot(epochs, [evaluation["val"] for evaluation in evaluations], linestyle="-.", label="Validation loss")
    axis.set_xlabel("Epochs")
    axis.set_ylabel("Loss")
    axis.legend(loc="upper right")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    tokens = axis.twiny()
    tokens.plot([(step + 1) * 4 * 256 for step in steps], [0] * len(steps), alpha=0)
    tokens.set_xlabel("Tokens seen")
    figure.tight_layout()
    figure.savefig(folder / "loss-plot.pdf")
    torch.save(model.state_dict(), folder / "gpt-model.pt")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--r50k", type=Path, required=True, metavar="FILE")
    parser.add_argument("--text", type=Path, required=True, metavar="FILE")
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "report.json")
    parser.add_argument("--files", type=Path, metavar="DIR", help="leave the plot and the weights there")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    encoding = load_r50k(args.r50k)
    content = args.text.read_bytes()
    text = content.decode()
    cut = int(0.9 * len(text))
    ids = [encoding.encode(part, allowed_special={"<|endoftext|>"}) for part in (text[:cut], text[cut:])]

    torch.manual_seed(args.seed)
    train_loader, val_loader = loaders(*ids, batch_size=4, max_length=256, stride=128)
    torch.manual_seed(args.seed)
    model = GPTModel(BOOK | {"drop_rate": args.dropout})
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, weight_decay=0.1)

    def sample():
        start = encoding.encode(PROMPT)
        return encoding.decode(greedy(model, start, N_TOKENS, BOOK["n_positions"]))

    head = {
        "torch": torch.__version__.split("+")[0],
        "text_sha256": hashlib.sha256(content).hexdigest(),
        "seed": args.seed,
        "dropout": args.dropout,
    }
    trace = Trace(args.out, head, sample)
    train(model, optimizer, train_loader, val_loader, args.epochs, 5, 5, trace)
    if args.files:
        write_files(args.files, trace.trace, model)


if __name__ == "__main__":
    main()
