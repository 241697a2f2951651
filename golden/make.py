#!/usr/bin/env python3
"""Makes the golden files: what PyTorch, transformers and tiktoken say, for calame's tests.

  tiny-book.safetensors   a tiny GPT as the book builds it: no qkv bias, a head of its own
  tiny-gpt2.safetensors   a tiny GPT-2 as transformers builds it: qkv bias, tied head
  hf-tiny-gpt2/           the second model as transformers saves it
  bpe.json                hashes of the token ids that tiktoken's r50k_base gives

The first three need nothing but the packages. bpe.json needs two inputs:

  --r50k FILE   the vocabulary r50k_base.tiktoken (the crate tiktoken-rs ships it in its folder
                assets/; with cargo's registry in the home directory:
                ~/.cargo/registry/src/*/tiktoken-rs-*/assets/r50k_base.tiktoken)
  --data DIR    the folder of texts; its SHA256SUMS names the files and is checked

Nothing is read from the network. The models run in f32 on one thread; each is also run in f64
from the same weights, the differences are printed as a table, and make.py writes no figures
where they come near what the tests allow.

  make.py --r50k r50k_base.tiktoken --data ../shared/data
  make.py --part models
"""

import argparse
import bz2
import hashlib
import json
import os
import shutil
import struct
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
sys.dont_write_bytecode = True  # book_gpt.py is imported from here: leave no __pycache__

SEED = 20261123
BATCH, POSITIONS, N_STEPS = 3, 17, 10
ADAMW = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}
SHAPE = {"vocab_size": 67, "n_positions": 24, "n_embd": 42, "n_head": 3, "n_layer": 2}
CONFIGS = {
    "tiny-book": SHAPE | {"qkv_bias": False, "tie_word_embeddings": False},
    "tiny-gpt2": SHAPE | {"qkv_bias": True, "tie_word_embeddings": True},
}

# What the f64 run may differ by. The tests allow calame 1e-5 in logits, 1e-4 of each tensor's
# largest in gradients, 1e-4 in losses: half of that for logits, a tenth for the rest.
# Parameters move by up to 1e-2 in ten steps; where a gradient is about AdamW's eps, its rounding
# shows in the step, hence 1e-4.
ALLOWED = {"logits": 5e-6, "loss": 1e-5, "grad": 1e-5, "adamw_losses": 1e-5, "param_after": 1e-4}

R50K_ADDRESS = "https://openaipublic.blob.core.windows.net/encodings/r50k_base.tiktoken"
R50K_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"


class Wrong(Exception):
    """An input is missing or a check failed; the message says what to do."""


# ---- the two models -------------------------------------------------------------------------


def expected_shapes(cfg):
    """Every parameter's name and shape, written down apart from both models as a check on them."""
    v, p, c = cfg["vocab_size"], cfg["n_positions"], cfg["n_embd"]
    shapes = {"wte.weight": (v, c), "wpe.weight": (p, c), "ln_f.weight": (c,), "ln_f.bias": (c,)}
    if not cfg["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (v, c)
    for i in range(cfg["n_layer"]):
        for norm in ("ln_1", "ln_2"):
            shapes[f"h.{i}.{norm}.weight"] = (c,)
            shapes[f"h.{i}.{norm}.bias"] = (c,)
        for linear, oc, ic in (
            ("attn.c_attn", 3 * c, c),
            ("attn.c_proj", c, c),
            ("mlp.c_fc", 4 * c, c),
            ("mlp.c_proj", c, 4 * c),
        ):
            shapes[f"h.{i}.{linear}.weight"] = (oc, ic)
            if linear != "attn.c_attn" or cfg["qkv_bias"]:
                shapes[f"h.{i}.{linear}.bias"] = (oc,)
    return shapes


def build_book(cfg):
    import book_gpt

    return book_gpt.GPTModel(cfg)


def build_gpt2(cfg):
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    end = cfg["vocab_size"] - 1  # the default, 50256, would lie outside this vocabulary
    config = GPT2Config(
        vocab_size=cfg["vocab_size"],
        n_positions=cfg["n_positions"],
        n_embd=cfg["n_embd"],
        n_head=cfg["n_head"],
        n_layer=cfg["n_layer"],
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
        attn_implementation="eager",
    )
    assert config.activation_function == "gelu_new" and config.layer_norm_epsilon == 1e-5
    return GPT2LMHeadModel(config)


def gpt2_to_hf_names(named):
    """transformers' dict without `transformer.`, its Conv1D weights [in, out] as [out, in]."""
    out = {}
    for name, tensor in named.items():
        name = name.removeprefix("transformer.")
        conv1d = (".attn." in name or ".mlp." in name) and name.endswith(".weight")
        out[name] = tensor.T if conv1d else tensor
    return out


def by_hf_name(kind, cfg, named):
    """Parameters or gradients by the golden files' names, copied, checked for name and shape."""
    import book_gpt

    named = {name: tensor.detach() for name, tensor in named.items()}
    out = book_gpt.to_hf_names(named) if kind == "tiny-book" else gpt2_to_hf_names(named)
    shapes = {name: tuple(tensor.shape) for name, tensor in out.items()}
    if shapes != expected_shapes(cfg):
        wrong = sorted(set(shapes.items()) ^ set(expected_shapes(cfg).items()))
        raise Wrong(f"{kind}: parameters are not those of the list: {wrong}")
    return {name: out[name].clone().contiguous() for name in sorted(out)}


def initialise(model, seed):
    """Fills every parameter so that none is at its trivial value (a norm of 1, a bias of 0).

    Query and key weights are large, so that attention is far from uniform.
    """
    import torch

    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            norm = any(part.startswith(("norm", "final_norm", "ln_")) for part in name.split("."))
            if norm and p.dim() == 1 and name.endswith(("weight", "scale")):
                p.copy_(1.0 + 0.2 * (torch.rand(p.shape, generator=gen) - 0.5))
            elif p.dim() == 1:
                p.copy_(0.1 * torch.randn(p.shape, generator=gen))
            elif any(s in name for s in ("W_query", "W_key", "c_attn")):
                p.copy_(0.2 * torch.randn(p.shape, generator=gen))
            elif any(s in name for s in ("emb.", "wte", "wpe", "out_head")):
                p.copy_(0.1 * torch.randn(p.shape, generator=gen))
            else:
                p.copy_(0.12 * torch.randn(p.shape, generator=gen))


def make_tokens(cfg, seed):
    """int32 [10, B, T + 1]; small ids are more frequent, so that ten steps lower the loss."""
    import torch

    gen = torch.Generator().manual_seed(seed)
    u = torch.rand((N_STEPS, BATCH, POSITIONS + 1), generator=gen, dtype=torch.float64)
    return (u * u * cfg["vocab_size"]).to(torch.int32)


def logits_and_loss(model, tokens):
    """Logits [B, T, V] and the mean cross-entropy over all B*T targets."""
    import torch

    inputs, targets = tokens[:, :-1].long(), tokens[:, 1:].long()
    out = model(inputs)
    logits = getattr(out, "logits", out)
    return logits, torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def run_model(kind, cfg, model, tokens):
    """Everything a golden file holds of one model, in the model's own precision."""
    import torch

    out = {}

    def put(prefix, named):
        for name, tensor in by_hf_name(kind, cfg, named).items():
            out[f"{prefix}.{name}"] = tensor

    put("param", dict(model.named_parameters()))
    optimizer = torch.optim.AdamW(model.parameters(), **ADAMW)
    losses = []
    for step in range(N_STEPS):
        optimizer.zero_grad(set_to_none=True)
        logits, loss = logits_and_loss(model, tokens[step])
        loss.backward()
        losses.append(loss.detach())
        if step == 0:
            out["logits"] = logits.detach().clone()
            out["loss"] = loss.detach().reshape(1).clone()
            put("grad", {name: p.grad for name, p in model.named_parameters()})
        optimizer.step()
    out["adamw_losses"] = torch.stack(losses)
    put("param_after", dict(model.named_parameters()))
    return out


# ---- f32 against f64 ------------------------------------------------------------------------


def split_key_bias(cfg, name, tensor):
    """(tensor without the key rows of c_attn.bias, those rows or None).

    A key bias adds the same number to every score of a query, which softmax ignores: its
    gradient is zero but for rounding, and Adam blows the rounding up to whole steps.
    """
    import torch

    if not name.endswith("attn.c_attn.bias"):
        return tensor, None
    c = cfg["n_embd"]
    return torch.cat([tensor[:c], tensor[2 * c :]]), tensor[c : 2 * c]


def differences(cfg, f32, f64):
    """The largest differences between the two runs, by what is compared."""

    def gap(a, b):
        return (a.double() - b).abs().max().item()

    found = {name: gap(f32[name], f64[name]) for name in ("logits", "loss", "adamw_losses")}
    found |= {"grad": 0.0, "param_after": 0.0}
    key_grad, key_after = [], []
    for name in expected_shapes(cfg):
        a, b = f32[f"grad.{name}"], f64[f"grad.{name}"]
        found["grad"] = max(found["grad"], gap(a, b) / b.abs().max().item())
        key_grad += [x.abs().max().item() for x in [split_key_bias(cfg, name, a)[1]] if x is not None]
        a, a_key = split_key_bias(cfg, name, f32[f"param_after.{name}"])
        b, b_key = split_key_bias(cfg, name, f64[f"param_after.{name}"])
        found["param_after"] = max(found["param_after"], gap(a, b))
        key_after += [gap(a_key, b_key)] if a_key is not None else []
    return found, max(key_grad, default=None), max(key_after, default=None)


def check_trust(kind, cfg, f32, f64):
    """Prints the table of differences; an excess is an error."""
    found, key_grad, key_after = differences(cfg, f32, f64)
    print(f"\n{kind}: f32 against f64\n\n| what | largest difference | allowed |\n| --- | --- | --- |")
    words = {
        "logits": "logits, absolute",
        "loss": "loss, absolute",
        "grad": "gradients, of each tensor's largest",
        "adamw_losses": "ten AdamW losses, absolute",
        "param_after": "parameters after ten steps, absolute, key biases apart",
    }
    for what, word in words.items():
        print(f"| {word} | {found[what]:.1e} | {ALLOWED[what]:.0e} |")
    if key_grad is not None:
        print(f"| key biases after ten steps, absolute | {key_after:.1e} | not compared |")
        print(f"| gradient of the key biases in f32 (zero in exact arithmetic) | {key_grad:.1e} | |")
    losses = " ".join(f"{x:.4f}" for x in f32["adamw_losses"].tolist())
    print(f"\nlosses before each step: {losses}")
    over = [what for what in found if not found[what] <= ALLOWED[what]]
    if over:
        raise Wrong(f"{kind}: f32 and f64 differ by more than allowed in {over}; figures not written")


def check_nontrivial(kind, f32):
    """No figure is NaN or infinite; no parameter or gradient is one value throughout."""
    for name, tensor in f32.items():
        if not tensor.isfinite().all():
            raise Wrong(f"{kind}: {name} is not finite")
        if name.startswith(("param.", "grad.")) and tensor.std().item() == 0.0:
            raise Wrong(f"{kind}: {name} holds one value only")


def make_model(kind, out_dir):
    import torch
    from safetensors.torch import save

    cfg = CONFIGS[kind]
    build = build_book if kind == "tiny-book" else build_gpt2
    offset = sorted(CONFIGS).index(kind)
    model = build(cfg).eval()
    initialise(model, SEED + offset)
    tokens = make_tokens(cfg, SEED + 100 + offset)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    f32 = run_model(kind, cfg, model, tokens)
    twin = build(cfg).eval()
    twin.load_state_dict(start)
    f64 = run_model(kind, cfg, twin.double(), tokens)

    check_nontrivial(kind, f32)
    check_trust(kind, cfg, f32, f64)
    assert all(t.dtype == torch.float32 for t in f32.values())
    blob = save(f32 | {"tokens": tokens}, metadata={"config": json.dumps(cfg)})
    (out_dir / f"{kind}.safetensors").write_bytes(blob)
    if kind == "tiny-gpt2":
        model.load_state_dict(start)
        save_hf(model, out_dir / "hf-tiny-gpt2")


def save_hf(model, folder):
    """config.json and model.safetensors as save_pretrained writes them; the rest is not kept."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as tmp:
        model.save_pretrained(tmp)
        for name in ("config.json", "model.safetensors"):
            shutil.copyfile(Path(tmp) / name, folder / name)


# ---- tiktoken -------------------------------------------------------------------------------


def load_r50k(path):
    """tiktoken's r50k_base from the given vocabulary, by way of its cache: it checks the hash."""
    blob = path.read_bytes()
    found = hashlib.sha256(blob).hexdigest()
    if found != R50K_SHA256:  # tiktoken would delete the file and fetch another
        raise Wrong(f"{path}: expected SHA-256 {R50K_SHA256}, found {found}; give r50k_base.tiktoken")
    with tempfile.TemporaryDirectory() as cache:
        (Path(cache) / hashlib.sha1(R50K_ADDRESS.encode()).hexdigest()).write_bytes(blob)
        os.environ["TIKTOKEN_CACHE_DIR"] = cache
        import tiktoken

        return tiktoken.get_encoding("r50k_base")


def u32_le(ids):
    return struct.pack(f"<{len(ids)}I", *ids)


def text_entry(encoding, text):
    ids = encoding.encode_ordinary(text)
    return {"n_tokens": len(ids), "sha256": hashlib.sha256(u32_le(ids)).hexdigest()}


def read_texts(data):
    """(name, text) of every file that SHA256SUMS lists; a .bz2 is decompressed."""
    sums = data / "SHA256SUMS"
    if not sums.is_file():
        raise Wrong(f"{sums}: expected the list of data files, found none; give --data DIR with it")
    for line in sorted(sums.read_text().splitlines(), key=lambda line: line.split()[1]):
        expected, name = line.split()
        blob = (data / name).read_bytes()
        found = hashlib.sha256(blob).hexdigest()
        if found != expected:
            raise Wrong(f"{data / name}: expected SHA-256 {expected}, found {found}")
        if name.endswith(".bz2"):
            name, blob = name.removesuffix(".bz2"), bz2.decompress(blob)
        yield name, blob.decode("utf-8")


MASK = (1 << 64) - 1
SPACES = [" ", "\n", "\t", "\r", "  ", "\u00a0", "\u2003", "\u3000"]
NUMBERS = ["0", "7", "12", "2026", "\u0663", "\u4e94", "\u00bd", "\u2167"]
WORDS = ["'s", "'t", "'re", "'ve", "'M", "'ll", " the", "<|endoftext|>"]


def splitmix64(state):
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def piece(r):
    """One piece of a random string: ASCII, spaces, numbers, letters of many scripts, any char."""
    kind, k = r % 8, r >> 8
    if kind in (0, 1):
        return chr(0x20 + k % 95)
    if kind == 2:
        return SPACES[k % 8]
    if kind == 3:
        return NUMBERS[k % 8]
    if kind == 4:
        return chr(0xC0 + k % 0x470)
    if kind == 5:
        return chr(0x3000 + k % 0xA7A4)
    if kind == 6:
        c = k % 0x110000
        return "\ufffd" if 0xD800 <= c <= 0xDFFF else chr(c)
    return WORDS[k % 8]


def random_strings(n_strings):
    draw = splitmix64(SEED)
    for _ in range(n_strings):
        n_pieces = next(draw) % 48
        yield "".join(piece(next(draw)) for _ in range(n_pieces))


def make_bpe(r50k, data, out_dir):
    encoding = load_r50k(r50k)
    files = {name: text_entry(encoding, text) for name, text in read_texts(data)}
    n_strings, n_tokens, digest = 10_000, 0, hashlib.sha256()
    for text in random_strings(n_strings):
        ids = encoding.encode_ordinary(text)
        assert encoding.decode_bytes(ids) == text.encode()
        digest.update(u32_le([len(ids)]) + u32_le(ids))
        n_tokens += len(ids)
    strings = {"n_strings": n_strings, "n_tokens": n_tokens, "sha256": digest.hexdigest()}
    body = json.dumps({"files": files, "random_strings": strings}, indent=2)
    (out_dir / "bpe.json").write_text(body + "\n")
    print(f"\nbpe.json: {len(files)} files, {n_strings} random strings of {n_tokens} tokens")


# ---- the command ----------------------------------------------------------------------------


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--r50k", type=Path, metavar="FILE", help="r50k_base.tiktoken, for bpe.json")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of texts, for bpe.json")
    parser.add_argument("--part", choices=("all", "models", "bpe"), default="all", help="what to make")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).resolve().parent,
        metavar="DIR",
        help="where to write (the folder of make.py)",
    )
    args = parser.parse_args()
    if args.part != "models":
        if args.r50k is None or not args.r50k.is_file():
            given = "nothing was given" if args.r50k is None else f"{args.r50k} is not a file"
            parser.error(
                f"bpe.json needs --r50k FILE, the vocabulary r50k_base.tiktoken ({given}); "
                "tiktoken-rs ships it in assets/; --part models does without"
            )
        if args.data is None or not args.data.is_dir():
            given = "nothing was given" if args.data is None else f"{args.data} is not a folder"
            parser.error(
                f"bpe.json needs --data DIR, the folder of texts with its SHA256SUMS ({given}); "
                "--part models does without"
            )
    return args


def main():
    args = parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        if args.part != "bpe":
            import torch

            torch.set_num_threads(1)
            torch.use_deterministic_algorithms(True)
            for kind in CONFIGS:
                make_model(kind, args.out)
        if args.part != "models":
            make_bpe(args.r50k, args.data, args.out)
    except (Wrong, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
