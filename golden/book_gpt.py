"""The book's GPTModel, with the book's module names.

Source: Sebastian Raschka, Build a Large Language Model (From Scratch), chapters 3 and 4.
Only the parts that bear on the numbers are here: pre-norm blocks, LayerNorm with eps 1e-5 and
the biased variance, tanh GELU, softmax of q.k / sqrt(HS), projections without bias where
qkv_bias is false, a head of its own, dropout of drop_rate (none unless the config names it) on
attention's weights, on the sum of the embeddings and on both shortcuts.
"""

import math

import torch
from torch import nn


class LayerNorm(nn.Module):
    def __init__(self, emb_dim):
        super().__init__()
        self.eps = 1e-5
        self.scale = nn.Parameter(torch.ones(emb_dim))
        self.shift = nn.Parameter(torch.zeros(emb_dim))

    def forward(self, x):
        mean = x.mean(dim=-1, keepdim=True)
        var = x.var(dim=-1, keepdim=True, unbiased=False)
        return self.scale * ((x - mean) / torch.sqrt(var + self.eps)) + self.shift


class GELU(nn.Module):
    def forward(self, x):
        inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3))
        return 0.5 * x * (1 + torch.tanh(inner))


class FeedForward(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        c = cfg["n_embd"]
        self.layers = nn.Sequential(nn.Linear(c, 4 * c), GELU(), nn.Linear(4 * c, c))

    def forward(self, x):
        return self.layers(x)


class MultiHeadAttention(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        c = cfg["n_embd"]
        assert c % cfg["n_head"] == 0
        self.num_heads = cfg["n_head"]
        self.head_dim = c // cfg["n_head"]
        self.W_query = nn.Linear(c, c, bias=cfg["qkv_bias"])
        self.W_key = nn.Linear(c, c, bias=cfg["qkv_bias"])
        self.W_value = nn.Linear(c, c, bias=cfg["qkv_bias"])
        self.out_proj = nn.Linear(c, c)
        self.dropout = nn.Dropout(cfg.get("drop_rate", 0.0))
        ones = torch.ones(cfg["n_positions"], cfg["n_positions"])
        self.register_buffer("mask", torch.triu(ones, diagonal=1))

    def forward(self, x):
        b, t, c = x.shape

        def heads(y):  # [B, T, C] -> [B, NH, T, HS]
            return y.view(b, t, self.num_heads, self.head_dim).transpose(1, 2)

        queries, keys, values = heads(self.W_query(x)), heads(self.W_key(x)), heads(self.W_value(x))
        scores = queries @ keys.transpose(2, 3)
        scores = scores.masked_fill(self.mask.bool()[:t, :t], -torch.inf)
        weights = self.dropout(torch.softmax(scores / keys.shape[-1] ** 0.5, dim=-1))
        context = (weights @ values).transpose(1, 2).contiguous().view(b, t, c)
        return self.out_proj(context)


class TransformerBlock(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.att = MultiHeadAttention(cfg)
        self.ff = FeedForward(cfg)
        self.norm1 = LayerNorm(cfg["n_embd"])
        self.norm2 = LayerNorm(cfg["n_embd"])
        self.drop_shortcut = nn.Dropout(cfg.get("drop_rate", 0.0))

    def forward(self, x):
        x = x + self.drop_shortcut(self.att(self.norm1(x)))
        return x + self.drop_shortcut(self.ff(self.norm2(x)))


class GPTModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        assert not cfg["tie_word_embeddings"]
        c = cfg["n_embd"]
        self.tok_emb = nn.Embedding(cfg["vocab_size"], c)
        self.pos_emb = nn.Embedding(cfg["n_positions"], c)
        self.drop_emb = nn.Dropout(cfg.get("drop_rate", 0.0))
        self.trf_blocks = nn.Sequential(*[TransformerBlock(cfg) for _ in range(cfg["n_layer"])])
        self.final_norm = LayerNorm(c)
        self.out_head = nn.Linear(c, cfg["vocab_size"], bias=False)

    def forward(self, in_idx):
        """Token ids [B, T] to logits [B, T, V]."""
        positions = torch.arange(in_idx.shape[1], device=in_idx.device)
        x = self.drop_emb(self.tok_emb(in_idx) + self.pos_emb(positions))
        return self.out_head(self.final_norm(self.trf_blocks(x)))


_TOP = {
    "tok_emb.weight": "wte.weight",
    "pos_emb.weight": "wpe.weight",
    "final_norm.scale": "ln_f.weight",
    "final_norm.shift": "ln_f.bias",
    "out_head.weight": "lm_head.weight",
}

_BLOCK = {
    "norm1.scale": "ln_1.weight",
    "norm1.shift": "ln_1.bias",
    "norm2.scale": "ln_2.weight",
    "norm2.shift": "ln_2.bias",
    "att.out_proj.weight": "attn.c_proj.weight",
    "att.out_proj.bias": "attn.c_proj.bias",
    "ff.layers.0.weight": "mlp.c_fc.weight",
    "ff.layers.0.bias": "mlp.c_fc.bias",
    "ff.layers.2.weight": "mlp.c_proj.weight",
    "ff.layers.2.bias": "mlp.c_proj.bias",
}


def to_hf_names(book):
    """A dict by the book's parameter names to one by Hugging Face's; q, k, v become c_attn."""
    out, qkv = {}, {}
    for name, tensor in book.items():
        if name in _TOP:
            out[_TOP[name]] = tensor
            continue
        prefix, i, rest = name.split(".", 2)
        assert prefix == "trf_blocks", name
        if rest in _BLOCK:
            out[f"h.{i}.{_BLOCK[rest]}"] = tensor
        else:
            att, which, kind = rest.split(".")
            assert att == "att" and which in ("W_query", "W_key", "W_value"), name
            qkv.setdefault(f"h.{i}.attn.c_attn.{kind}", {})[which] = tensor
    for name, parts in qkv.items():
        out[name] = torch.cat([parts["W_query"], parts["W_key"], parts["W_value"]])
    return out
