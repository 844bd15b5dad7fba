//! What only a running cache meets: text that was generated in other tokens than it is read in, and prompts without messages.

use headstart::engine::explain::Conversation;
use headstart::kv::{Change, Divergence, DivergenceKind, Owner};
use serde_json::Value;

use super::{Kind, base, report, side, tokenizer};

/// The conversation with the text `word` of its answer as a model might have generated it: a character a token.
fn spelled(conversation: &Conversation, word: &str) -> Vec<u32> {
    let tokens = &conversation.tokens;
    let place = (0..tokens.len()).find_map(|at| {
        let end = (at + 1..tokens.len()).take(4).find(|&end| tokenizer().decode(&tokens[at..end], false) == word)?;
        Some(at..end)
    });
    let place = place.expect(word);
    let letters: Vec<u32> = word.chars().flat_map(|letter| tokenizer().encode(&letter.to_string()).unwrap()).collect();
    assert_ne!(letters, tokens[place.clone()]);
    [&tokens[..place.start], &letters, &tokens[place.end..]].concat()
}

fn found(known: &[u32], kind: Kind, request: &Value) -> Divergence {
    let (namespace, prompt) = side(kind, request);
    let report = report((&namespace, known), (&namespace, &prompt.tokens));
    prompt.divergence(&report, tokenizer()).unwrap()
}

#[test]
fn an_answer_read_in_other_tokens_than_it_was_generated_in_is_nobodys_fault() {
    for (kind, message) in [(Kind::ChatMl, 2), (Kind::Llama, 4)] {
        let request = base(kind);
        let whole = spelled(&side(kind, &request).1, " twelve");
        let word = whole.iter().zip(&side(kind, &request).1.tokens).take_while(|(a, b)| a == b).count();
        // Also where the answer ended in it, and in the middle of it.
        for end in [whole.len(), word + 7, word + 4] {
            let found = found(&whole[..end], kind, &request);
            assert_eq!(found.owner, Owner::Message { message, role: "assistant".into() });
            assert_eq!(found.token, word);
            if end == word + 4 {
                assert_ne!(found.change, Change::Tokenization, "the text that is known is another: {found:?}");
                continue;
            }
            assert_eq!((found.change, found.recoverable), (Change::Tokenization, 0), "{found:?}");
            assert_eq!((found.known.as_str(), found.prompt.as_str()), (" twelve", " twelve"));
            let said = found.to_string();
            assert!(
                said.contains("was generated in other tokens") && said.ends_with("There is nothing to mend."),
                "{said}"
            );
        }
    }
}

#[test]
fn words_put_into_an_answer_are_an_edit_and_no_turn() {
    let request = base(Kind::ChatMl);
    let edit = |text: &str| {
        let mut edited = request.clone();
        edited["messages"][2]["content"] = text.into();
        edited
    };
    let told = request["messages"][2]["content"].as_str().unwrap();
    let longer = edit(&told.replace(" is there", " really is there"));
    for (known, prompt, said) in
        [(&request, &longer, "\" really\" is new. "), (&longer, &request, "\" really\" is missing. ")]
    {
        let found = found(&side(Kind::ChatMl, known).1.tokens, Kind::ChatMl, prompt);
        let owner = Owner::Message { message: 2, role: "assistant".into() };
        assert_eq!((found.kind, &found.owner), (DivergenceKind::Edited, &owner));
        assert!(found.to_string().contains(&format!("{said}What a turn says differently")), "{found}");
    }
}

#[test]
fn another_text_is_no_matter_of_tokens() {
    let request = base(Kind::ChatMl);
    let mut edited = request.clone();
    edited["messages"][2]["content"] =
        "It stands on shelf twelfth; one of the two copies is there at the moment.".into();
    let found = found(&spelled(&side(Kind::ChatMl, &request).1, " twelve"), Kind::ChatMl, &edited);
    assert_eq!((found.change, &found.owner), (Change::Text, &Owner::Message { message: 2, role: "assistant".into() }));
}

#[test]
fn a_text_without_messages_owns_itself() {
    let [known, prompt] = ["10:35", "10:36"].map(|time| {
        let text =
            format!("It is {time} on a bright morning in the month of May, and the ship is ready to sail at last.");
        Conversation::raw(tokenizer().encode(&text).unwrap())
    });
    let (namespace, _) = side(Kind::ChatMl, &base(Kind::ChatMl));
    let report = report((&namespace, &known.tokens), (&namespace, &prompt.tokens));
    let found = prompt.divergence(&report, tokenizer()).unwrap();
    assert_eq!((&found.owner, found.change), (&Owner::Prompt, Change::Number));
    assert_eq!((found.known.as_str(), found.prompt.as_str()), ("5", "6"));
    assert_eq!(found.recoverable, prompt.tokens.len() - found.token - 1);
    assert!(found.to_string().starts_with("the text differs at token "), "{found}");
}

#[test]
fn nothing_is_said_where_nothing_is_known_or_asked() {
    let (namespace, prompt) = side(Kind::ChatMl, &base(Kind::ChatMl));
    let same = report((&namespace, &prompt.tokens), (&namespace, &prompt.tokens));
    assert_eq!(prompt.divergence(&same, tokenizer()), None);
    let mut other = prompt.tokens.clone();
    other[30] ^= 1;
    let mut told = report((&namespace, &other), (&namespace, &prompt.tokens));
    assert!(prompt.divergence(&told, tokenizer()).is_some());
    told.known.clear();
    assert_eq!(prompt.divergence(&told, tokenizer()), None, "nobody looked");
    // A report of another prompt.
    let short = Conversation::raw(prompt.tokens[..10].to_vec());
    assert_eq!(short.divergence(&report((&namespace, &other), (&namespace, &prompt.tokens)), tokenizer()), None);
}
