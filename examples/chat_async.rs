use headstart::{Chat, Result};

async fn talk(model: String) -> Result<()> {
    let mut chat = Chat::builder(model).system("Answer in one sentence.").open_async().await?;
    let answer = chat.say_async("Why is the sky blue?", |piece| eprint!("{piece}")).await?;
    println!("\n[{:.1} tokens a second]", answer.timings.decode_tok_s);
    Ok(())
}

fn main() -> Result<()> {
    let model = std::env::args().nth(1).expect("the path of a model");
    pollster::block_on(talk(model)) // or the executor of your program, on one thread
}
