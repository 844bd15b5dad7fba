use std::error::Error;
use std::time::{Duration, Instant};

use headstart::{
    AnswerId, Answers, Background, BackgroundConfig, Body, Checkpoint, Engine, EngineOptions, FilesystemConfig,
    FilesystemStore, Input, Language, MemoryStore, Message, Seal, Tiers, TiersConfig, Update, What, key_file,
    system_clock,
};

async fn answer_all(model: &str, questions: &[&str]) -> Result<(), Box<dyn Error>> {
    let checkpoint = Checkpoint::open(model).await?;
    let language = Language::open(&checkpoint)?;
    let mut engine = Engine::load(&checkpoint, &EngineOptions::default(), &mut |_| {}).await?;

    // Prefixes outlive the GPU's room in memory, and this process in a directory. The key tells them from others' files.
    let seal = Seal::new(&key_file("kv.key".as_ref())?);
    let disk = || FilesystemStore::new("kv", FilesystemConfig::default(), system_clock()).sealed(seal.clone());
    let directory = Background::new(disk(), disk(), BackgroundConfig::default());
    let memory = MemoryStore::new(1 << 30, system_clock());
    let tiers = Tiers::new(memory, vec![Box::new(directory)], TiersConfig::default());
    let digest = checkpoint.digest(&mut |_, _| {}).await?;
    engine.attach(tiers, &digest, Duration::from_secs(5));

    let mut answers = Answers::new(engine, &language.tokenizer, None);
    for question in questions {
        let arrived = Instant::now();
        let body = Body::from(Input::from(vec![Message::new("user", *question)]));
        let tokens = language.tokens(&body.input)?;
        let request = body.request(tokens, answers.engine().config(), answers.engine().context(), || 1);
        let AnswerId(id) = answers.ask(request, body.stops, arrived)?;
        println!("{id} asks: {question}");
    }
    while answers.is_busy() {
        for Update { id: AnswerId(id), what } in answers.step().await? {
            match what {
                What::Prompt { done, total } => println!("{id} has read {done} of {total} tokens"),
                What::Text { text, .. } if !text.is_empty() => println!("{id} says: {text}"),
                What::Finished(answer) => println!("{id} reused {} tokens", answer.usage.cached_tokens),
                What::Failed(error) => println!("{id} failed: {error}"),
                _ => {}
            }
        }
    }
    answers.persist().await?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args().nth(1).expect("the path of a model");
    pollster::block_on(answer_all(&model, &["Why is the sky blue?", "And the sea?", "And at sunset?"]))
}
