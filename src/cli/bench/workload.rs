//! Prompts of four kinds of use. Each shares a chosen part with the one before. Pure.
//!
//! Tokens are drawn at random from the vocabulary, since no kernel's time depends on them.

/// A xorshift generator (Marsaglia, 2003): equal seeds give equal prompts on every machine.
pub(crate) struct Tokens {
    state: u64,
    vocabulary: u32,
}

impl Tokens {
    pub(crate) fn new(seed: u64, vocabulary: usize) -> Self {
        Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, vocabulary: vocabulary as u32 }
    }

    pub(crate) fn take(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> u32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        ((self.state >> 33) % u64::from(self.vocabulary)) as u32
    }
}

/// How the prompts of one kind of use follow each other.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// How many prompts there are. Nothing is known of the first.
    pub(crate) requests: usize,
    /// The length of the first prompt, and how much longer each is than the one before, in percent of the workload's length.
    first: usize,
    growth: usize,
}

pub(crate) const WORKLOADS: [Workload; 4] = [
    Workload { name: "shared system prompt", requests: 4, first: 100, growth: 0 },
    Workload { name: "multi-turn chat", requests: 5, first: 40, growth: 20 },
    Workload { name: "long-document questions", requests: 3, first: 150, growth: 0 },
    Workload { name: "agent loop", requests: 8, first: 50, growth: 10 },
];

/// The shares of a prompt that the one before has in common with it, in percent.
pub(crate) const REUSABLE: [usize; 4] = [0, 50, 90, 100];

impl Workload {
    /// The prompts, `length` tokens long in the middle. Of each but the first, `reusable` percent are the beginning of the one
    /// before, or all of that where it is shorter; at 100 the prompt is the one before again.
    pub(crate) fn prompts(&self, length: usize, reusable: usize, tokens: &mut Tokens) -> Vec<Vec<u32>> {
        let mut prompts: Vec<Vec<u32>> = Vec::with_capacity(self.requests);
        for index in 0..self.requests {
            let Some(last) = prompts.last() else {
                prompts.push(tokens.take((length * self.first / 100).max(1)));
                continue;
            };
            let size = (length * (self.first + index * self.growth) / 100).max(1);
            let known = if reusable == 100 { last.len() } else { (size * reusable / 100).min(last.len()) };
            let fresh = if reusable == 100 { 0 } else { size - known };
            let prompt = [&last[..known], &tokens.take(fresh)].concat();
            prompts.push(prompt);
        }
        prompts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_prompt_begins_with_as_much_of_the_one_before_as_was_asked() {
        for workload in WORKLOADS {
            for reusable in REUSABLE {
                let prompts = workload.prompts(200, reusable, &mut Tokens::new(7, 50_000));
                assert_eq!(prompts.len(), workload.requests);
                for pair in prompts.windows(2) {
                    let same = pair[0].iter().zip(&pair[1]).take_while(|(a, b)| a == b).count();
                    let asked = (pair[1].len() * reusable / 100).min(pair[0].len());
                    assert_eq!(same, asked, "{} at {reusable} %", workload.name);
                }
            }
        }
    }
}
