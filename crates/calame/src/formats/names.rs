//! Maps parameter names between formats.
//!
//! Our names are those of the Hugging Face GPT-2 checkpoint without the prefix: `wte.weight`,
//! `h.{i}.attn.c_attn.weight`.

use std::borrow::Cow;

/// Hugging Face's prefix of every name except the head's.
const HF_PREFIX: &str = "transformer.";

/// Components that wrappers insert into names at any depth: `torch.compile`, fully sharded training, recomputation.
const WRAPPERS: [&str; 3] = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];
/// The first components of the names of each scheme. What stands before them is a prefix: the attribute under which a
/// script, Lightning or `DistributedDataParallel` keeps the model.
const HF_ROOTS: [&str; 5] = ["wte", "wpe", "h", "ln_f", "lm_head"];
const BOOK_ROOTS: [&str; 5] = ["tok_emb", "pos_emb", "trf_blocks", "final_norm", "out_head"];
const GGUF_ROOTS: [&str; 5] = ["token_embd", "position_embd", "blk", "output_norm", "output"];

/// The naming scheme of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// The scheme of Hugging Face, nanoGPT and llm.c.
    HuggingFace,
    /// The scheme of the book's `GPTModel`.
    Book,
    /// The scheme of llama.cpp's GGUF files.
    Gguf,
}

/// What a key of a file refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// One of our parameters.
    Whole(String),
    /// The rows of the queries, keys or values (0, 1, 2) of one of our parameters.
    Third(String, usize),
    /// Not a parameter: a causal mask or its fill value.
    Nothing,
}

/// The book's and our names within a block, except the book's `W_query`, `W_key`, `W_value`.
const BOOK_BLOCK: [(&str, &str); 10] = [
    ("att.out_proj.weight", "attn.c_proj.weight"),
    ("att.out_proj.bias", "attn.c_proj.bias"),
    ("ff.layers.0.weight", "mlp.c_fc.weight"),
    ("ff.layers.0.bias", "mlp.c_fc.bias"),
    ("ff.layers.2.weight", "mlp.c_proj.weight"),
    ("ff.layers.2.bias", "mlp.c_proj.bias"),
    ("norm1.scale", "ln_1.weight"),
    ("norm1.shift", "ln_1.bias"),
    ("norm2.scale", "ln_2.weight"),
    ("norm2.shift", "ln_2.bias"),
];
const BOOK_ENDS: [(&str, &str); 5] = [
    ("tok_emb.weight", "wte.weight"),
    ("pos_emb.weight", "wpe.weight"),
    ("final_norm.scale", "ln_f.weight"),
    ("final_norm.shift", "ln_f.bias"),
    ("out_head.weight", "lm_head.weight"),
];
/// The book's projections, in the order of their rows in c_attn.
const BOOK_QKV: [&str; 3] = ["att.W_query", "att.W_key", "att.W_value"];

/// llama.cpp's and our names within a block.
const GGUF_BLOCK: [(&str, &str); 12] = [
    ("attn_norm.weight", "ln_1.weight"),
    ("attn_norm.bias", "ln_1.bias"),
    ("attn_qkv.weight", "attn.c_attn.weight"),
    ("attn_qkv.bias", "attn.c_attn.bias"),
    ("attn_output.weight", "attn.c_proj.weight"),
    ("attn_output.bias", "attn.c_proj.bias"),
    ("ffn_norm.weight", "ln_2.weight"),
    ("ffn_norm.bias", "ln_2.bias"),
    ("ffn_up.weight", "mlp.c_fc.weight"),
    ("ffn_up.bias", "mlp.c_fc.bias"),
    ("ffn_down.weight", "mlp.c_proj.weight"),
    ("ffn_down.bias", "mlp.c_proj.bias"),
];
const GGUF_ENDS: [(&str, &str); 5] = [
    ("token_embd.weight", "wte.weight"),
    ("position_embd.weight", "wpe.weight"),
    ("output_norm.weight", "ln_f.weight"),
    ("output_norm.bias", "ln_f.bias"),
    ("output.weight", "lm_head.weight"),
];

impl Naming {
    /// Recognises the scheme by the keys of a file.
    pub fn of<'a>(mut keys: impl Iterator<Item = &'a str>) -> Naming {
        keys.find_map(|key| {
            let is = |naming: Naming, name| naming.unwrapped(key) == name;
            match key {
                _ if is(Naming::Book, "tok_emb.weight") => Some(Naming::Book),
                _ if is(Naming::Gguf, "token_embd.weight") => Some(Naming::Gguf),
                _ => None,
            }
        })
        .unwrap_or(Naming::HuggingFace)
    }

    /// A key without the prefix and the components that wrappers add; an unknown key is returned as it is.
    fn unwrapped(self, key: &str) -> Cow<'_, str> {
        let roots = match self {
            Naming::HuggingFace => &HF_ROOTS,
            Naming::Book => &BOOK_ROOTS,
            Naming::Gguf => &GGUF_ROOTS,
        };
        let key = match key.split('.').any(|part| WRAPPERS.contains(&part)) {
            true => Cow::Owned(key.split('.').filter(|part| !WRAPPERS.contains(part)).collect::<Vec<_>>().join(".")),
            false => Cow::Borrowed(key),
        };
        let mut start = 0;
        let is_known = key.split('.').any(|part| {
            let is_root = roots.contains(&part);
            start += if is_root { 0 } else { part.len() + 1 };
            is_root
        });
        match (key, is_known) {
            (Cow::Borrowed(key), true) => Cow::Borrowed(&key[start..]),
            (Cow::Owned(key), true) => Cow::Owned(key[start..].to_owned()),
            (key, false) => key,
        }
    }

    /// What a key refers to. An unknown key is returned as a name of ours that no parameter has.
    pub fn meaning(self, key: &str) -> Meaning {
        let key = self.unwrapped(key);
        match self {
            Naming::HuggingFace => hugging_face(&key),
            Naming::Book => book(&key),
            Naming::Gguf => gguf(&key),
        }
    }

    /// The keys of one of our parameters in a file: a single one, or those of its queries, keys and values.
    pub fn keys(self, ours: &str) -> Vec<String> {
        let block = ours.strip_prefix("h.").and_then(|rest| rest.split_once('.'));
        let find = |table: &[(&str, &str)], name: &str| {
            table
                .iter()
                .find(|(_, ours)| *ours == name)
                .map_or_else(|| name.to_owned(), |(theirs, _)| (*theirs).to_owned())
        };
        match (self, block) {
            (Naming::HuggingFace, _) if ours == "lm_head.weight" => vec![ours.to_owned()],
            (Naming::HuggingFace, _) => vec![format!("{HF_PREFIX}{ours}")],
            (Naming::Book, None) => vec![find(&BOOK_ENDS, ours)],
            (Naming::Gguf, None) => vec![find(&GGUF_ENDS, ours)],
            (Naming::Gguf, Some((i, path))) => vec![format!("blk.{i}.{}", find(&GGUF_BLOCK, path))],
            (Naming::Book, Some((i, path))) => match path.strip_prefix("attn.c_attn.") {
                Some(what) => BOOK_QKV.iter().map(|qkv| format!("trf_blocks.{i}.{qkv}.{what}")).collect(),
                None => vec![format!("trf_blocks.{i}.{}", find(&BOOK_BLOCK, path))],
            },
        }
    }
}

fn hugging_face(name: &str) -> Meaning {
    let mask = name.starts_with("h.") && (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"));
    if mask { Meaning::Nothing } else { Meaning::Whole(name.to_owned()) }
}

fn book(key: &str) -> Meaning {
    let Some((i, path)) = key.strip_prefix("trf_blocks.").and_then(|rest| rest.split_once('.')) else {
        return ours(&BOOK_ENDS, key, "");
    };
    if path == "att.mask" {
        return Meaning::Nothing;
    }
    let third = BOOK_QKV.iter().enumerate().find_map(|(third, qkv)| {
        let what = path.strip_prefix(qkv)?.strip_prefix('.').filter(|what| matches!(*what, "weight" | "bias"))?;
        Some(Meaning::Third(format!("h.{i}.attn.c_attn.{what}"), third))
    });
    third.unwrap_or_else(|| ours(&BOOK_BLOCK, path, &format!("h.{i}.")))
}

fn gguf(key: &str) -> Meaning {
    match key.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((i, path)) => ours(&GGUF_BLOCK, path, &format!("h.{i}.")),
        None => ours(&GGUF_ENDS, key, ""),
    }
}

fn ours(table: &[(&str, &str)], path: &str, prefix: &str) -> Meaning {
    let name = table.iter().find(|(theirs, _)| *theirs == path).map_or(path, |(_, ours)| *ours);
    Meaning::Whole(format!("{prefix}{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;
    use crate::model::params::shapes;

    #[test]
    fn every_parameter_name_survives_a_round_trip_through_each_naming() {
        let config = crate::model::ModelConfig { tied_head: false, ..Preset::Tiny.config() };
        for naming in [Naming::HuggingFace, Naming::Book, Naming::Gguf] {
            for (name, _) in shapes(&config) {
                let ours = name.to_string();
                let keys = naming.keys(&ours);
                for (third, key) in keys.iter().enumerate() {
                    let expected = match keys.len() {
                        1 => Meaning::Whole(ours.clone()),
                        _ => Meaning::Third(ours.clone(), third),
                    };
                    assert_eq!(naming.meaning(key), expected, "{naming:?} {key}");
                    // A common prefix of every kind, and components that wrappers insert.
                    for prefix in ["module._orig_mod.", "model.", "gpt.", "module.model.", "net._orig_mod.gpt.", "a.b."]
                    {
                        assert_eq!(naming.meaning(&format!("{prefix}{key}")), expected, "{prefix}{key}");
                    }
                    let within = key.replacen('.', "._fsdp_wrapped_module.", 1);
                    assert_eq!(naming.meaning(&within), expected, "{within}");
                }
            }
        }
    }

    #[test]
    fn masks_are_not_parameters() {
        assert_eq!(Naming::HuggingFace.meaning("transformer.h.0.attn.bias"), Meaning::Nothing);
        assert_eq!(Naming::HuggingFace.meaning("h.11.attn.masked_bias"), Meaning::Nothing);
        assert_eq!(Naming::Book.meaning("trf_blocks.3.att.mask"), Meaning::Nothing);
    }

    #[test]
    fn what_no_parameter_is_called_is_kept() {
        for key in ["score.weight", "bert.embeddings.weight", "model.", "", ".", "transformer.wte2.weight"] {
            assert_eq!(Naming::HuggingFace.meaning(key), Meaning::Whole(key.to_owned()));
        }
    }

    #[test]
    fn a_naming_is_recognised_by_its_keys() {
        assert_eq!(Naming::of(["x", "_orig_mod.tok_emb.weight"].into_iter()), Naming::Book);
        assert_eq!(Naming::of(["net.gpt.tok_emb.weight"].into_iter()), Naming::Book);
        assert_eq!(Naming::of(["token_embd.weight"].into_iter()), Naming::Gguf);
        assert_eq!(Naming::of(["wte.weight"].into_iter()), Naming::HuggingFace);
    }
}
