//! Every dimension of a key, in every tier: if one differs nothing is reused, and if all are equal everything is.

use headstart::engine::{Engine, Request};
use headstart::kv::{AdmitOptions, Cache, CacheConfig, Fields, Key, Namespace, PAGE, Producer};
use headstart::store::{self, Blob, Deadline, Element, Expected, Row, Tiers};
use pollster::block_on;

use super::{chunked, cold, digest, prompt, same, warm, watched};
use crate::store::halves;
use crate::support::engine::{load, run};
use crate::support::odd::{NAMES, Tiny};
use crate::support::tiers::{Place, Places, Reach, TIERS, Tier};
use crate::support::variant::VARIANTS;

/// The fields of a model, and variants with one field changed, for each field.
fn namespaces() -> (Namespace, Vec<(&'static str, Namespace)>) {
    let tags = Fields::default().entries().map(|entry| entry.0);
    let of = |changed: Option<&str>| {
        let values = tags.map(|tag| (tag, format!("{tag}{}", if changed == Some(tag) { " changed" } else { "" })));
        Namespace::new(Fields::from_entries(values.iter().map(|(tag, value)| (*tag, value.as_str()))).unwrap())
    };
    (of(None), tags.into_iter().map(|tag| (tag, of(Some(tag)))).collect())
}

fn tokens() -> Vec<u32> {
    (0..40).map(|i| 5 + i * 3).collect()
}

/// `tokens()` with another token at each position in turn.
fn altered() -> impl Iterator<Item = (usize, Vec<u32>)> {
    (0..tokens().len()).map(|at| {
        let mut tokens = tokens();
        tokens[at] += 1;
        (at, tokens)
    })
}

#[test]
fn pages_are_found_under_all_their_fields_and_tokens_only() {
    let (own, others) = namespaces();
    assert_eq!(others.len(), 8);
    let mut cache = Cache::new(CacheConfig { capacity: 64, ..CacheConfig::default() });
    let whole = AdmitOptions { max: Some(40), ..AdmitOptions::default() };
    let admission = cache.admit(&own, &tokens(), &whole).unwrap();
    assert_eq!(admission.cached_tokens, 0);
    let mut table = admission.table;
    cache.append(&mut table, 40).unwrap();
    cache.publish(&mut table, &tokens(), Producer::Prefill);
    cache.release(table);
    let mut found = |namespace: &Namespace, tokens: &[u32]| {
        let admission = cache.admit(namespace, tokens, &whole).unwrap();
        assert_eq!(cache.lookup(namespace, tokens, &whole), admission.cached_tokens);
        cache.release(admission.table);
        admission.cached_tokens
    };
    for (field, other) in &others {
        assert_eq!((found(other, &tokens()), found(&own, &tokens())), (0, 40), "{field}");
    }
    for (at, tokens) in altered() {
        assert_eq!(found(&own, &tokens), at);
    }
}

const ROWS: [Row; 2] = [Row { k: 8, v: 4 }, Row { k: 6, v: 2 }];

/// The blocks of `tokens` in a namespace.
fn blocks(namespace: &Namespace, tokens: &[u32]) -> Vec<Blob> {
    let entries = namespace.fields().entries().map(|(tag, value)| (tag.to_owned(), value.to_owned()));
    let mut parent = namespace.key();
    let blobs = tokens.chunks(PAGE).map(|block| {
        let (before, key) = (parent, Key::block(&parent, block));
        parent = key;
        let kv = halves((0..20 * block.len()).map(|i| usize::from(key.0[i % 32])));
        Blob {
            key: key.0,
            parent: before.0,
            tokens: block.to_vec(),
            namespace: entries.iter().cloned().collect(),
            producer: store::Producer::Prefill,
            last_hidden: None,
            element: Element::F16,
            rows: ROWS.to_vec(),
            kv,
            windows: 0,
            state: Vec::new(),
        }
    });
    blobs.collect()
}

fn loads(tiers: &Tiers, wanted: &Blob) -> Option<Blob> {
    let namespace: Vec<(&str, &str)> = wanted.namespace.iter().map(|(tag, value)| (&**tag, &**value)).collect();
    let Blob { key, parent, element, .. } = *wanted;
    let (tokens, namespace) = (&wanted.tokens[..], &namespace[..]);
    let expected = Expected {
        key,
        parent,
        tokens,
        namespace,
        element,
        rows: &ROWS,
        windows: 0,
        start: false,
        hidden: 3,
        state: 0,
    };
    block_on(tiers.load(&expected)).map(|loaded| loaded.value)
}

/// A block is not found under another key, not even if its bytes are stored there.
#[test]
fn stores_return_a_block_for_its_own_fields_and_tokens_only() {
    let (own, others) = namespaces();
    let strangers = others.iter().map(|(field, other)| (field.to_string(), "namespace", blocks(other, &tokens()), 0));
    let altered = altered().map(|(at, tokens)| (format!("token {at}"), "key", blocks(&own, &tokens), at / PAGE));
    let strangers: Vec<_> = strangers.chain(altered).collect();
    let places = Places::default();
    for tier in Tier::reaching(Reach::Process) {
        let place = places.new_in(tier);
        let tiers = place.open();
        let mine = blocks(&own, &tokens());
        for blob in &mine {
            block_on(tiers.save(blob));
        }
        block_on(tiers.flush());
        let at = tiers.stores().count() - 1;
        let store = tiers.stores().last().unwrap();
        for (what, refusal, theirs, first) in &strangers {
            let what = format!("{what}, {}", tier.name);
            let keys: Vec<_> = theirs.iter().map(|blob| blob.key).collect();
            let expected: Vec<Option<usize>> = (0..3).map(|block| (block < *first).then_some(at)).collect();
            assert_eq!(block_on(tiers.find(&keys, Deadline::NEVER)).tiers, expected, "{what}");
            for (block, (my, their)) in mine.iter().zip(theirs).enumerate() {
                assert_eq!(loads(&tiers, my).as_ref(), Some(my), "{what}: an equal block was not found");
                if block < *first {
                    assert_eq!(my, their);
                    continue;
                }
                assert_eq!(loads(&tiers, their), None, "{what}");
                let refused = |tiers: &Tiers| tiers.stats()[at].1.rejected.get(refusal).copied().unwrap_or(0);
                let before = refused(&tiers);
                place.put(&their.key, &my.encode());
                assert_eq!(loads(&tiers, their), None, "{what}: bytes under another key");
                assert_eq!(refused(&tiers), before + 1, "{what}");
                assert_eq!(block_on(store.contains(&[their.key])).unwrap(), [false], "{what}: left behind");
            }
        }
    }
}

struct Side<'a> {
    what: &'a str,
    place: &'a Place,
    tokens: &'a [u32],
}

impl Side<'_> {
    /// Asks again as a new process would, and checks how many tokens came from the tier.
    fn ask(&self, engine: &mut Engine, digest: &str, expected: usize) -> Vec<u32> {
        let mut cold_answer = run(engine, &[cold(watched(self.tokens, 2))]).remove(0);
        self.place.restart(engine, digest);
        let answer = run(engine, &[watched(self.tokens, 2)]).remove(0);
        let tier = self.place.tier;
        let sources = (tier.sources)(expected, self.tokens.len() - expected);
        assert_eq!(answer.cache.sources, sources, "{} from {}", self.what, tier.name);
        same(self.what, &cold_answer, &answer, expected);
        block_on(engine.persist()).unwrap();
        cold_answer.logits.remove(0)
    }
}

#[test]
fn another_model_reuses_nothing_and_the_same_one_everything() {
    let places = Places::default();
    for variant in VARIANTS {
        let (base, other) = (variant.base(), variant.make());
        let (own, theirs) = (digest(base.path()), digest(other.path()));
        let [mut first, mut again] = [(); 2].map(|()| load(base.path(), &variant.base_options(chunked(64))));
        let mut changed = load(other.path(), &variant.options(chunked(64)));
        let tokens = prompt(40, first.config().vocab, 3);
        for tier in Tier::reaching(Reach::Process) {
            let side = Side { what: variant.name, place: &places.new_in(tier), tokens: &tokens };
            let expected = side.ask(&mut first, &own, 0);
            assert!(side.ask(&mut again, &own, 40) == expected);
            assert!(
                side.ask(&mut changed, &theirs, 0) != expected,
                "{}: the variant computes the same logits",
                variant.name
            );
            assert!(side.ask(&mut changed, &theirs, 40) != expected);
            assert!(side.ask(&mut first, &own, 40) == expected);
        }
    }
}

#[test]
fn another_salt_reuses_nothing_and_the_same_one_everything() {
    let tiny = Tiny::read(NAMES[0]);
    let mut engine = load(&tiny.folder, &chunked(64));
    let tokens = prompt(40, tiny.vocabulary, 4);
    let salted = |salt: &str| Request { cache_salt: salt.into(), ..watched(&tokens, 2) };
    let cold = run(&mut engine, &[cold(salted(""))]).remove(0);
    let places = Places::default();
    for tier in TIERS {
        let place = places.new_in(tier);
        place.restart(&mut engine, "digest");
        for (turn, salt) in ["", "a", "b", "a ", "", "a", "b", "a "].into_iter().enumerate() {
            let cached = if turn < 4 { 0 } else { 40 };
            let answer = run(&mut engine, &[salted(salt)]).remove(0);
            assert_eq!(answer.cache.sources, (tier.sources)(cached, 40 - cached), "salt {salt:?}, {}", tier.name);
            same(salt, &cold, &answer, cached);
            block_on(engine.persist()).unwrap();
            if !tier.is_gpu() {
                place.restart(&mut engine, "digest");
            }
        }
    }
}

#[test]
fn another_token_at_any_position_ends_the_hit_there() {
    let tiny = Tiny::read(NAMES[0]);
    let (mut engine, mut reference) = (load(&tiny.folder, &chunked(64)), load(&tiny.folder, &chunked(64)));
    let tokens = prompt(40, tiny.vocabulary, 5);
    let places = Places::default();
    for tier in TIERS {
        let place = places.new_in(tier);
        place.restart(&mut engine, "digest");
        warm(&mut engine, &tokens);
        for at in 0..tokens.len() {
            let mut altered = tokens.clone();
            altered[at] = (altered[at] + 1) % tiny.vocabulary as u32;
            let cold = run(&mut reference, &[cold(watched(&altered, 1))]).remove(0);
            if !tier.is_gpu() {
                place.restart(&mut engine, "digest");
            }
            let answer = run(&mut engine, &[watched(&altered, 1)]).remove(0);
            let what = format!("token {at}, {}", tier.name);
            assert_eq!(answer.cache.sources, (tier.sources)(at, 40 - at), "{what}");
            same(&what, &cold, &answer, at);
        }
        if !tier.is_gpu() {
            place.restart(&mut engine, "digest");
        }
        let answer = run(&mut engine, &[watched(&tokens, 1)]).remove(0);
        assert_eq!(answer.cache.sources, (tier.sources)(40, 0), "{}: the shared part", tier.name);
    }
}
