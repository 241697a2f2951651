//! Doc comments that say nothing, and identifiers of DESIGN.md's vocabulary that were replaced.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::source::{is_punct, line_of};
use super::{Breach, Source};

/// A doc comment has more words than this.
const TOO_FEW_WORDS: usize = 3;

/// Replaced identifiers and the folders in which they are breaches; no folder means everywhere.
///
/// A pattern with a capital matches the whole identifier. One without matches the identifier in snake case; a `*` at an end
/// of it stands for any words or none.
const REPLACED: [(&str, &[&str]); 24] = [
    ("*room*", &[]),
    ("*rooms*", &[]),
    ("Finish", &["crates/calame-kernels", "crates/calame/src/ops"]),
    ("Start", &["crates/calame-kernels", "crates/calame/src/ops"]),
    ("Keep", &[]),
    ("Shards", &["crates/calame-kernels"]),
    ("deal", &[]),
    ("classifier_forward", &[]),
    ("classifier_forward_backward", &[]),
    ("Trouble", &[]),
    ("*pass_over*", &[]),
    ("passed_over*", &[]),
    ("is_listed", &[]),
    ("took", &[]),
    ("spoken_of", &[]),
    ("a_pair", &[]),
    ("n_again", &[]),
    ("kept_share", &[]),
    ("goes_on*", &[]),
    ("Beginning", &[]),
    ("*_in_all", &[]),
    ("*learnt*", &[]),
    ("*by_heart*", &[]),
    ("house", &[]),
];

/// Doc comments of three words or fewer. Consecutive lines are one comment.
pub fn short_docs(sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for source in sources.iter().filter(|source| source.module().is_some()) {
        let mut comments = Vec::new();
        collect_docs(source.tokens(), &mut comments);
        for (line, text) in comments {
            let words = text.split_whitespace().filter(|word| word.contains(char::is_alphanumeric));
            if words.count() <= TOO_FEW_WORDS {
                breaches.push(source.breach(line, format!("a doc comment that says nothing: \"{}\"", text.trim())));
            }
        }
    }
    breaches
}

/// Line and text of each doc comment.
fn collect_docs(tokens: TokenStream, comments: &mut Vec<(usize, String)>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    // Whether the last comment may continue on the next line, and whether it is an inner one.
    let mut open = None;
    while let Some(token) = tokens.get(at) {
        let is_inner = is_punct(tokens.get(at + 1), '!');
        let attribute = if is_punct(Some(token), '#') { tokens.get(at + 1 + usize::from(is_inner)) } else { None };
        if let Some(text) = attribute.and_then(doc_text) {
            match comments.last_mut().filter(|_| open == Some(is_inner)) {
                Some((_, comment)) => *comment += &format!("\n{text}"),
                None => comments.push((line_of(token), text)),
            }
            open = Some(is_inner);
            at += 2 + usize::from(is_inner);
            continue;
        }
        open = None;
        if let TokenTree::Group(group) = token {
            collect_docs(group.stream(), comments);
        }
        at += 1;
    }
}

/// The text of `[doc = "…"]`.
fn doc_text(attribute: &TokenTree) -> Option<String> {
    let TokenTree::Group(group) = attribute else { return None };
    let inside: Vec<TokenTree> = group.stream().into_iter().collect();
    match inside.as_slice() {
        [TokenTree::Ident(doc), TokenTree::Punct(_), TokenTree::Literal(text)]
            if doc == "doc" && group.delimiter() == Delimiter::Bracket =>
        {
            syn::parse_str::<syn::LitStr>(&text.to_string()).ok().map(|text| text.value())
        }
        _ => None,
    }
}

/// The breaches of each pattern of [`REPLACED`], tests included.
pub fn replaced_identifiers(sources: &[Source]) -> BTreeMap<&'static str, Vec<Breach>> {
    let mut breaches: BTreeMap<&str, Vec<Breach>> = REPLACED.map(|(pattern, _)| (pattern, Vec::new())).into();
    for source in sources {
        let mut identifiers = Vec::new();
        collect_identifiers(source.tokens(), &mut identifiers);
        for (line, name) in identifiers {
            let broken = REPLACED
                .iter()
                .filter(|(pattern, folders)| matches(pattern, &name) && (folders.is_empty() || source.is_in(folders)));
            for (pattern, _) in broken {
                let breach = source.breach(line, format!("`{name}`: see the table of words in DESIGN.md"));
                breaches.entry(*pattern).or_default().push(breach);
            }
        }
    }
    breaches
}

fn collect_identifiers(tokens: TokenStream, identifiers: &mut Vec<(usize, String)>) {
    for token in tokens {
        match &token {
            TokenTree::Ident(ident) => identifiers.push((line_of(&token), ident.to_string())),
            TokenTree::Group(group) => collect_identifiers(group.stream(), identifiers),
            _ => {}
        }
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    if pattern.contains(char::is_uppercase) {
        return name == pattern;
    }
    let name = format!("_{}_", snake_case(name));
    let words = format!("_{}_", pattern.trim_matches('*').trim_matches('_'));
    match (pattern.starts_with('*'), pattern.ends_with('*')) {
        (true, true) => name.contains(&words),
        (true, false) => name.ends_with(&words),
        (false, true) => name.starts_with(&words),
        (false, false) => name == words,
    }
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    let mut after_lower = false;
    for c in name.chars() {
        if c.is_uppercase() && after_lower {
            snake.push('_');
        }
        after_lower = c.is_lowercase() || c.is_ascii_digit();
        snake.extend(c.to_lowercase());
    }
    snake
}

// The rules on made-up sources.

use super::{lines, source};

#[test]
fn doc_comments_of_three_words_or_fewer_are_found() {
    let docs = |text: &str| lines(short_docs, "crates/calame/src/ops/mod.rs", text);
    assert_eq!(docs("//! Operations.\n\nfn f() {}"), [1]);
    assert_eq!(docs("\n/// The three words.\nfn f() {}"), [2]);
    assert_eq!(docs("/// - / *\nfn f() {}"), [1]);
    assert_eq!(docs("/** Which. */\nfn f() {}"), [1]);
    assert_eq!(docs("struct A {\n    /// Which.\n    a: u8,\n    /// Rows.\n    b: u8,\n}"), [2, 4]);
    assert_eq!(docs("m! {\n    /// Which.\n    fn f() {}\n}"), [2]);
    assert_eq!(docs("fn f() {\n    //! What it is.\n}"), [2]);
    assert_eq!(docs("//! A module with one operation.\n\n/// One of them.\nfn f() {}"), [3]);
    assert_eq!(docs("/// Which.\n#[inline]\n/// Again.\nfn f() {}"), [1, 3]);
}

#[test]
fn doc_comments_of_four_words_and_other_comments_are_left_alone() {
    let docs = |text: &str| lines(short_docs, "crates/calame/src/ops/mod.rs", text);
    assert!(docs("/// The sum of rows.\nfn f() {}").is_empty());
    assert!(docs("/// The sum,\n///\n/// row by row.\nfn f() {}").is_empty());
    assert!(docs("//! The sum\n//! of rows.").is_empty());
    assert!(docs("// Which.\nfn f() { /* Which. */ }\nconst A: &str = \"/// Which.\";").is_empty());
    assert!(docs("#[doc(hidden)]\nfn f() {}").is_empty());
    assert!(lines(short_docs, "crates/calame/tests/it/a.rs", "/// Which.\nfn f() {}").is_empty());
}

#[test]
fn replaced_identifiers_are_found_and_others_left_alone() {
    let found = |path: &str, text: &str| {
        let breaches = replaced_identifiers(&[source(path, text)]);
        let mut lines: Vec<usize> = breaches.into_values().flatten().map(|breach| breach.line).collect();
        lines.sort_unstable();
        lines
    };
    let model = |text: &str| found("crates/calame/src/model/gpt.rs", text);
    for word in [
        "Rooms",
        "WorkRoom",
        "work_room",
        "gemm_room",
        "attention_room",
        "room",
        "room_k",
        "Keep",
        "Deal",
        "Trouble",
        "pass_over",
        "classifier_forward",
        "is_listed",
        "took",
        "spoken_of",
        "a_pair",
        "n_again",
        "kept_share",
        "GoesOn",
        "Beginning",
        "n_steps_in_all",
        "learnt",
        "is_learnt_again",
        "by_heart",
    ] {
        assert_eq!(model(&format!("\nfn {word}() {{}}")), [2], "{word}");
        assert_eq!(model(&format!("fn f() {{ m!(a,\n {word}); }}")), [2], "{word} in a macro");
        assert_eq!(model(&format!("// {word}\nconst A: &str = \"{word}\";")), [0; 0], "{word}");
    }
    for word in
        ["mushroom", "headroom", "keep", "Keeper", "in_all_orders", "a_pairing", "mistook", "classifier", "Start"]
    {
        assert!(model(&format!("fn {word}() {{}}")).is_empty(), "{word}");
    }
    for word in ["Finish", "Start", "Shards"] {
        let text = format!("struct {word};");
        assert_eq!(found("crates/calame-kernels/src/pool.rs", &text), [1], "{word}");
        assert!(found("crates/calame/src/data/shards.rs", &text).is_empty(), "{word}");
    }
    let tests = "#[cfg(test)]\nmod tests { fn room() {} }";
    assert_eq!(model(tests), [2]);
}
