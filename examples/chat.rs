use headstart::Chat;

fn main() -> headstart::Result<()> {
    let model = std::env::args().nth(1).expect("the path of a model");
    let mut chat = Chat::open(model)?;
    for question in ["Why is the sky blue?", "And at sunset?"] {
        let answer = chat.say(question, |piece| eprint!("{piece}"))?;
        println!("\n[{} of {} prompt tokens were known]", answer.usage.cached_tokens, answer.usage.prompt_tokens);
    }
    Ok(())
}
