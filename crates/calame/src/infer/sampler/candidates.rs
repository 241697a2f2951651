//! The tokens that can be drawn: their truncation by top-k, top-p, min-p and locally typical sampling, and the draw.
//!
//! The candidates are in no order. A step that depends on their order finds its position by partial selection
//! ([`position`]), which takes linear time, instead of sorting the vocabulary.

use std::cmp::Ordering;

/// A set of this size or smaller is sorted.
const MAX_SORTED: usize = 64;

/// A token that can be drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub id: u32,
    /// The logit after bias and penalties.
    pub score: f32,
    /// exp((score − greatest score) / temperature): proportional to the probability, at most 1.
    pub weight: f64,
}

/// Work space for the candidates of one draw; the memory is reused.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates {
    list: Vec<Candidate>,
}

impl Candidates {
    /// Collects the tokens with the `top_k` highest scores `[V]` and those that equal the last of them; all if `top_k`
    /// is 0. Tokens with a score of −∞ are not candidates. The weights are not set.
    pub fn collect(&mut self, scores: &[f32], top_k: usize) {
        self.list.clear();
        // Ties can make every token a candidate.
        self.list.reserve(scores.len());
        let k = if top_k == 0 { scores.len() } else { top_k.min(scores.len()) };
        let mut bound = f32::NEG_INFINITY;
        let mut limit = 2 * k + MAX_SORTED;
        for (id, &score) in scores.iter().enumerate() {
            if score < bound || score == f32::NEG_INFINITY {
                continue;
            }
            self.list.push(Candidate { id: id as u32, score, weight: 0.0 });
            if self.list.len() == limit {
                bound = self.cut_to_top_k(k);
                // Ties remain: without a growing limit each of them would start another selection.
                limit = limit.max(2 * self.list.len());
            }
        }
        self.cut_to_top_k(k);
    }

    /// Returns the k-th highest score, or −∞ if there are no more than k candidates.
    fn cut_to_top_k(&mut self, k: usize) -> f32 {
        if k >= self.list.len() {
            return f32::NEG_INFINITY;
        }
        let bound = self.list.select_nth_unstable_by(k - 1, descending).1.score;
        self.list.retain(|c| c.score >= bound);
        bound
    }

    /// Computes the weights for the softmax, and drops tokens whose weight is 0.
    pub fn weigh(&mut self, max_score: f32, temperature: f64) {
        for c in &mut self.list {
            c.weight = scaled(c.score, max_score, temperature).exp();
        }
        self.list.retain(|c| c.weight > 0.0);
    }

    fn total(&self) -> f64 {
        self.list.iter().map(|c| c.weight).sum()
    }

    /// Keeps the shortest prefix in descending order whose probability reaches `top_p`.
    ///
    /// A. Holtzman et al., "The curious case of neural text degeneration", 2020.
    pub fn cut_to_top_p(&mut self, top_p: f64) {
        if top_p < 1.0 {
            let enough = top_p * self.total();
            let last = position(&mut self.list, descending, |sum| sum >= enough);
            self.list.truncate(last + 1);
        }
    }

    /// Keeps tokens with at least `min_p` times the probability of the most likely one, whose weight is 1.
    ///
    /// M. Nguyen et al., "Turning up the heat: min-p sampling", 2024.
    pub fn cut_to_min_p(&mut self, min_p: f64) {
        if min_p > 0.0 {
            self.list.retain(|c| c.weight >= min_p);
        }
    }

    /// Keeps the tokens whose information content −ln p differs least from the entropy, as many as reach the
    /// probability `typical_p`, and those that equal the last of them.
    ///
    /// C. Meister et al., "Locally typical sampling", 2022.
    pub fn cut_to_typical(&mut self, typical_p: f64, max_score: f32, temperature: f64) {
        if typical_p == 1.0 {
            return;
        }
        let total = self.total();
        let log_total = total.ln();
        let information = |c: &Candidate| log_total - scaled(c.score, max_score, temperature);
        let entropy: f64 = self.list.iter().map(|c| c.weight / total * information(c)).sum();
        let deviation = |c: &Candidate| (information(c) - entropy).abs();
        let by_deviation =
            |a: &Candidate, b: &Candidate| deviation(a).total_cmp(&deviation(b)).then_with(|| descending(a, b));
        let enough = typical_p * total;
        let last = position(&mut self.list, by_deviation, |sum| sum >= enough);
        let bound = deviation(&self.list[last]);
        self.list.retain(|c| deviation(c) <= bound);
    }

    /// The token at which the cumulative probability in descending order exceeds `u`, a number in [0, 1).
    pub fn draw(&mut self, u: f64) -> u32 {
        let target = u * self.total();
        let drawn = position(&mut self.list, descending, |sum| sum > target);
        self.list[drawn].id
    }

    /// Ids and probabilities in descending order.
    pub fn distribution(&mut self) -> Vec<(u32, f64)> {
        self.list.sort_unstable_by(descending);
        let total = self.total();
        self.list.iter().map(|c| (c.id, c.weight / total)).collect()
    }
}

/// (score − greatest score) / temperature: the logarithm of a candidate's weight.
fn scaled(score: f32, max_score: f32, temperature: f64) -> f64 {
    (f64::from(score) - f64::from(max_score)) / temperature
}

/// Falling scores; among equal ones the lowest id first. Scores are not NaN.
fn descending(a: &Candidate, b: &Candidate) -> Ordering {
    b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
}

/// Position, in the order `order`, of the first candidate at which the sum of the weights up to and including it is
/// `reached`; the last position if rounding leaves the sum below all. Moves the candidates such that those before this
/// position in the order are before it in the list. Linear time.
fn position(
    list: &mut [Candidate],
    order: impl Fn(&Candidate, &Candidate) -> Ordering,
    reached: impl Fn(f64) -> bool,
) -> usize {
    let (mut start, mut end) = (0, list.len());
    let mut sum = 0.0;
    // Most of the probability usually belongs to few tokens.
    let mut parts = 16;
    while end - start > MAX_SORTED {
        let middle = start + (end - start) / parts;
        parts = 2;
        list[start..end].select_nth_unstable_by(middle - start, &order);
        let sum_to_middle = list[start..middle].iter().fold(sum, |sum, c| sum + c.weight);
        if reached(sum_to_middle) {
            end = middle;
        } else {
            (start, sum) = (middle, sum_to_middle);
        }
    }
    list[start..end].sort_unstable_by(&order);
    let found = list[start..end].iter().position(|c| {
        sum += c.weight;
        reached(sum)
    });
    found.map_or(end - 1, |i| start + i)
}
