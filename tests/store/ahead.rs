//! Reading ahead: blocks are fetched in groups, in order, verified, and from the next tier if one fails.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use headstart::store::{
    Ahead, Blob, Bytes, Deadline, MemoryStore, Missing, Store, StoreAnswer, StoreError, StoreKey, Tiers, TiersConfig,
    Wanted, system_clock,
};

use super::*;

/// A store that records how many blocks each call asks for.
struct Noting {
    inner: MemoryStore,
    asked: Rc<RefCell<Vec<usize>>>,
    fails: bool,
    hangs: bool,
}

impl Store for Noting {
    fn name(&self) -> &'static str {
        "noting"
    }

    fn get<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, Option<Bytes>> {
        self.inner.get(key)
    }

    fn get_many<'a>(&'a self, keys: &'a [StoreKey], _: usize) -> StoreAnswer<'a, Vec<Option<Bytes>>> {
        self.asked.borrow_mut().push(keys.len());
        Box::pin(async move {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            if self.fails {
                return Err(StoreError::Backend { store: "noting", problem: "gone".into() });
            }
            let mut values = Vec::new();
            for key in keys {
                values.push(self.inner.get(key).await?);
            }
            Ok(values)
        })
    }

    fn put<'a>(&'a self, key: &'a StoreKey, bytes: &'a Bytes, ttl: Option<Duration>) -> StoreAnswer<'a, ()> {
        self.inner.put(key, bytes, ttl)
    }

    fn contains<'a>(&'a self, keys: &'a [StoreKey]) -> StoreAnswer<'a, Vec<bool>> {
        self.inner.contains(keys)
    }

    fn remove<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, bool> {
        self.inner.remove(key)
    }

    fn clear(&self) -> StoreAnswer<'_, ()> {
        self.inner.clear()
    }
}

struct Scene {
    blocks: Vec<Blob>,
    asked: [Rc<RefCell<Vec<usize>>>; 2],
    tiers: Rc<Tiers>,
}

impl Scene {
    fn ahead(&self, places: &[usize], group: usize, deadline: Deadline) -> Ahead<Blob> {
        let wanted = self.blocks.iter().map(wanted).collect();
        Ahead::new(self.tiers.clone(), wanted, places.to_vec(), group, deadline, Arc::new(|blob| blob.into_owned()))
    }
}

fn wanted(blob: &Blob) -> Wanted {
    Wanted::from(Expected { rows: &blob.rows, ..expected(blob) })
}

/// Ten blocks in two stores, behind a memory that keeps nothing.
fn scene(change: impl Fn(&mut Noting)) -> Scene {
    let blocks: Vec<Blob> = (0..10).map(|n| Blob { key: key(n + 1), parent: key(n), ..blob(16, false) }).collect();
    let asked: [Rc<RefCell<Vec<usize>>>; 2] = Default::default();
    let store = |asked: &Rc<RefCell<Vec<usize>>>| {
        let inner = MemoryStore::new(1 << 20, system_clock());
        blocks.iter().for_each(|block| wait(inner.put(&block.key, &block.encode().into(), None)).unwrap());
        Noting { inner, asked: asked.clone(), fails: false, hangs: false }
    };
    let (mut near, far) = (store(&asked[0]), store(&asked[1]));
    change(&mut near);
    let tiers =
        Tiers::new(MemoryStore::new(0, system_clock()), vec![Box::new(near), Box::new(far)], TiersConfig::default());
    Scene { blocks, asked, tiers: Rc::new(tiers) }
}

#[test]
fn blocks_come_in_order_and_are_asked_for_in_groups_before_they_are_needed() {
    let scene = scene(|_| {});
    let Scene { blocks, asked, .. } = &scene;
    let places = [[1; 4], [2; 4]].concat().into_iter().chain([2, 2]).collect::<Vec<_>>();
    let mut ahead = scene.ahead(&places, 3, Deadline::NEVER);
    let first = wait(ahead.next()).unwrap().unwrap();
    assert_eq!((&first.value, first.tier), (&blocks[0], 1));
    assert_eq!(
        (&*asked[0].borrow(), &*asked[1].borrow()),
        (&vec![3, 1], &vec![3]),
        "one is awaited, two are in flight"
    );
    for (block, place) in blocks.iter().zip(&places).skip(1) {
        let loaded = wait(ahead.next()).unwrap().unwrap();
        assert_eq!((&loaded.value, loaded.tier), (block, *place));
    }
    assert_eq!((&*asked[0].borrow(), &*asked[1].borrow()), (&vec![3, 1], &vec![3, 3]));
    assert!(wait(ahead.next()).is_none(), "there are no more");
}

#[test]
fn a_block_that_one_tier_cannot_deliver_comes_from_the_next() {
    for what in ["lost", "damaged", "failing"] {
        let scene = scene(|near| match what {
            "lost" => assert!(wait(near.inner.remove(&key(3))).unwrap()),
            "damaged" => wait(near.inner.put(&key(3), &Bytes::from_static(b"damaged"), None)).unwrap(),
            _ => near.fails = true,
        });
        let Scene { blocks, tiers, .. } = &scene;
        let mut ahead = scene.ahead(&[1; 10], 4, Deadline::NEVER);
        let loaded: Vec<_> = blocks.iter().map(|_| wait(ahead.next()).unwrap().unwrap()).collect();
        assert!(loaded.iter().zip(blocks).all(|(loaded, block)| loaded.value == *block), "{what}");
        let from: Vec<usize> = loaded.iter().map(|loaded| loaded.tier).collect();
        let stats = &tiers.stats()[1].1;
        match what {
            "failing" => assert_eq!((from, stats.failures, stats.misses), (vec![2; 10], 3, 10)),
            _ => {
                assert_eq!(from, [1, 1, 2, 1, 1, 1, 1, 1, 1, 1], "{what}");
                assert_eq!((stats.misses, stats.rejected.values().sum()), if what == "lost" { (1, 0) } else { (0, 1) });
            }
        }
    }
}

#[test]
fn large_blocks_are_verified_on_other_threads_whatever_their_tier() {
    let block = Blob { rows: vec![Row { k: 4096, v: 4096 }], kv: vec![7; 16 * 8192], ..blob(16, false) };
    let behind = MemoryStore::new(1 << 20, system_clock());
    wait(behind.put(&block.key, &block.encode().into(), None)).unwrap();
    let memory = MemoryStore::new(0, system_clock());
    let tiers = Rc::new(Tiers::new(memory, vec![Box::new(behind)], TiersConfig::default()));
    for place in [0, 1] {
        let unpack = Arc::new(|_: Blob<&[u8]>| thread::current().id());
        let mut ahead = Ahead::new(tiers.clone(), vec![wanted(&block)], vec![place], 1, Deadline::NEVER, unpack);
        let loaded = wait(ahead.next()).unwrap().unwrap();
        assert_eq!((loaded.tier, loaded.value == thread::current().id()), (1, false), "expected in tier {place}");
    }
}

#[test]
fn a_store_that_hangs_costs_the_deadline() {
    let scene = scene(|near| near.hangs = true);
    let deadline = Deadline::after(Duration::from_millis(1));
    let mut ahead = scene.ahead(&[1; 10], 4, deadline);
    assert!(matches!(wait(ahead.next()), Some(Err(Missing::Late { .. }))));
    let stats = &scene.tiers.stats()[1].1;
    assert_eq!((stats.late, stats.failures, stats.misses), (1, 1, 1));
    assert!(deadline.passed());
}
