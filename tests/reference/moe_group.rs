//! Groups the choices of rows by expert.

/// `choices`: the expert of each. Returns tiles of at most `tokens` choices with their expert, both in order.
pub fn tiles(choices: &[usize], experts: usize, tokens: usize) -> Vec<(usize, Vec<usize>)> {
    let of = |expert: usize| {
        let own: Vec<usize> = (0..choices.len()).filter(|&choice| choices[choice] == expert).collect();
        own.chunks(tokens).map(|tile| (expert, tile.to_vec())).collect::<Vec<_>>()
    };
    (0..experts).flat_map(of).collect()
}
