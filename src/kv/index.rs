//! The prefix index: a tree of blocks, found by chain key, compared token by token.
//!
//! A node is a page whose first `block.len()` slots hold the KV of `block` after the blocks of its ancestors; the page is its
//! id. Invariants: a parent is a full block and is indexed itself; siblings differ in their tokens; `full` has the keys of full
//! blocks alone, since a partial block is found among its siblings and may still grow.
//!
//! A lookup walks full blocks by key, O(1) each. It then finds the sibling that shares the longest prefix with the remaining
//! tokens in O(log siblings): siblings are sorted by tokens, so that sibling is next to the query's place.

use std::collections::{BTreeMap, HashMap};

use super::PageId;
use super::evict::Stamp;
use super::key::{Key, Namespace, PAGE};

/// One to `PAGE` tokens, ordered as token sequences.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    len: u8,
    tokens: [u32; PAGE],
}

impl Block {
    pub(crate) fn new(tokens: &[u32]) -> Self {
        let mut block = Self { len: tokens.len() as u8, tokens: [0; PAGE] };
        block.tokens[..tokens.len()].copy_from_slice(tokens);
        block
    }

    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens[..self.len()]
    }

    pub(crate) fn len(&self) -> usize {
        self.len.into()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() == PAGE
    }
}

impl Ord for Block {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.tokens().cmp(other.tokens())
    }
}

impl PartialOrd for Block {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parent {
    Root(Key),
    Page(PageId),
}

pub(super) type Children = BTreeMap<Block, PageId>;

pub(super) struct Node {
    pub(crate) tenant: Key,
    pub(crate) parent: Parent,
    pub(crate) block: Block,
    /// Leading tokens of the block that are bit-identical to a cold prefill.
    pub(crate) exact: usize,
    /// The page lacks the KV of sliding-window layers.
    pub(crate) partial: bool,
    pub(crate) children: Children,
    pub(crate) stamp: Stamp,
    /// Serial number among all pages ever indexed.
    pub(crate) birth: u64,
    /// The chain key; full blocks alone have one.
    pub(crate) key: Option<Key>,
}

pub(super) struct Root {
    pub(crate) namespace: Namespace,
    pub(crate) children: Children,
}

/// The longest indexed prefix of a prompt.
#[derive(Debug, Default)]
pub(super) struct Match {
    /// Pages to share: full blocks from the first.
    pub(crate) pages: Vec<PageId>,
    pub(crate) keys: Vec<Key>,
    /// A page whose first tokens continue the prompt, and the number of those tokens.
    pub(crate) tail: Option<(PageId, usize)>,
    /// Leading tokens that are exact.
    pub(crate) exact: usize,
    pub(crate) stop: Stop,
}

impl Match {
    pub(crate) fn tokens(&self) -> usize {
        self.pages.len() * PAGE + self.tail.map_or(0, |tail| tail.1)
    }
}

/// How many tokens may be reused, given the position in the prompt at which a node begins, the node, and the number of leading
/// tokens that it shares with the prompt.
pub(super) type Usable<'a> = dyn Fn(usize, &Node, usize) -> usize + 'a;

/// Why a match is not longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stop {
    /// It covers all tokens asked for.
    #[default]
    Complete,
    /// Nothing is indexed after it.
    End,
    /// The index continues with other tokens.
    Diverged,
    /// The tokens that follow were written by decode kernels.
    Inexact,
    /// The KV of sliding-window layers is missing, in what follows or in the window before it.
    Partial,
}

impl Root {
    /// How many of the first tokens are indexed here, up to one page.
    pub(crate) fn shared(&self, tokens: &[u32]) -> usize {
        let query = Block::new(&tokens[..tokens.len().min(PAGE)]);
        let near = [self.children.range(query..).next(), self.children.range(..query).next_back()];
        near.into_iter().flatten().map(|(block, _)| common(block.tokens(), tokens)).max().unwrap_or(0)
    }
}

#[derive(Default)]
pub(super) struct Index {
    pub(crate) nodes: HashMap<PageId, Node>,
    pub(crate) roots: BTreeMap<Key, Root>,
    pub(crate) full: HashMap<Key, PageId>,
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Index {
    pub(crate) fn children(&self, parent: Parent) -> Option<&Children> {
        match parent {
            Parent::Root(key) => self.roots.get(&key).map(|root| &root.children),
            Parent::Page(page) => self.nodes.get(&page).map(|node| &node.children),
        }
    }

    fn children_mut(&mut self, parent: Parent) -> Option<&mut Children> {
        match parent {
            Parent::Root(key) => self.roots.get_mut(&key).map(|root| &mut root.children),
            Parent::Page(page) => self.nodes.get_mut(&page).map(|node| &mut node.children),
        }
    }

    /// The node of a full block, if its parent and tokens match too.
    fn lookup(&self, key: &Key, parent: Parent, tokens: &[u32]) -> Option<(PageId, &Node)> {
        let page = *self.full.get(key)?;
        let node = self.nodes.get(&page)?;
        (node.parent == parent && node.block.tokens() == tokens).then_some((page, node))
    }

    /// A child of `parent`, a full block or a namespace, that begins with `tokens`.
    pub(crate) fn beginning(&self, parent: &Key, tokens: &[u32]) -> Option<PageId> {
        let parent = self.full.get(parent).map_or(Parent::Root(*parent), |&page| Parent::Page(page));
        let (block, page) = self.children(parent)?.range(Block::new(tokens)..).next()?;
        block.tokens().starts_with(tokens).then_some(*page)
    }

    /// The longest indexed prefix of `tokens[..max]` that `usable` permits, compared token by token.
    pub(crate) fn find(&self, namespace: &Namespace, tokens: &[u32], max: usize, usable: &Usable<'_>) -> Match {
        let tokens = &tokens[..max.min(tokens.len())];
        let mut found = Match::default();
        let mut parent = Parent::Root(namespace.key());
        let mut key = namespace.key();
        for block in tokens.chunks_exact(PAGE) {
            key = Key::block(&key, block);
            let Some((page, node)) = self.lookup(&key, parent, block) else { break };
            if usable(found.tokens(), node, PAGE) < PAGE {
                break;
            }
            if found.exact == found.tokens() {
                found.exact += node.exact;
            }
            found.pages.push(page);
            found.keys.push(key);
            parent = Parent::Page(page);
        }
        let rest = &tokens[found.tokens()..];
        if !rest.is_empty() {
            self.find_tail(parent, &rest[..rest.len().min(PAGE)], usable, &mut found);
        }
        found
    }

    /// The child of `parent` that shares most tokens with `rest`. If several share as many, one that ends there wins.
    fn find_tail(&self, parent: Parent, rest: &[u32], usable: &Usable<'_>, found: &mut Match) {
        let begin = found.tokens();
        let usable_of = |page: &PageId, shared: usize| usable(begin, &self.nodes[page], shared);
        let none = Children::new();
        let children = self.children(parent).unwrap_or(&none);
        let query = Block::new(&rest[..rest.len().min(PAGE)]);
        let (mut best, mut most, mut longest) = (None, 0, 0);
        let after = &mut children.range(query..) as &mut dyn Iterator<Item = (&Block, &PageId)>;
        for side in [after, &mut children.range(..query).rev()] {
            for (block, &page) in side {
                let shared = common(block.tokens(), rest);
                let tokens = usable_of(&page, shared);
                longest = longest.max(shared);
                if tokens > most {
                    (best, most) = (Some(page), tokens);
                }
                if shared <= most {
                    break; // siblings further away share no more
                }
            }
        }
        let ends = |page: &&PageId| usable_of(page, most) >= most;
        let ended = children.get(&Block::new(&rest[..most])).filter(ends);
        if let Some(&page) = ended.or(best.as_ref()) {
            if found.exact == found.tokens() {
                found.exact += most.min(self.nodes[&page].exact);
            }
            found.tail = Some((page, most));
        }
        let unknown = children.is_empty() || (longest == 0 && matches!(parent, Parent::Root(_)));
        found.stop = if most == rest.len() {
            Stop::Complete
        } else if longest > most {
            Stop::Inexact
        } else if ended.is_some() || unknown {
            Stop::End
        } else {
            Stop::Diverged
        };
    }

    /// The page that holds exactly this block after `parent`.
    pub(crate) fn child(&self, parent: Parent, block: &Block) -> Option<PageId> {
        self.children(parent)?.get(block).copied()
    }

    /// Adds a page. Its parent must be indexed or be a root, which is made if missing; no sibling may hold the same tokens.
    pub(crate) fn insert(&mut self, namespace: &Namespace, page: PageId, node: Node) {
        if let Parent::Root(key) = node.parent {
            self.roots.entry(key).or_insert_with(|| Root { namespace: namespace.clone(), children: Children::new() });
        }
        let siblings = self.children_mut(node.parent).expect("the parent of a node is indexed");
        let twin = siblings.insert(node.block, page);
        debug_assert!(twin.is_none());
        if let Some(key) = node.key {
            self.full.insert(key, page);
        }
        self.nodes.insert(page, node);
    }

    /// Removes a leaf.
    pub(crate) fn remove(&mut self, page: PageId) -> Option<Node> {
        let node = self.nodes.remove(&page)?;
        debug_assert!(node.children.is_empty());
        if let Some(key) = node.key {
            self.full.remove(&key);
        }
        if let Some(siblings) = self.children_mut(node.parent) {
            siblings.remove(&node.block);
        }
        if let Parent::Root(key) = node.parent
            && self.roots.get(&key).is_some_and(|root| root.children.is_empty())
        {
            self.roots.remove(&key);
        }
        Some(node)
    }

    /// Replaces page `old` by page `new`, which holds the same tokens.
    pub(crate) fn replace(&mut self, old: PageId, new: PageId, birth: u64) {
        let Some(mut node) = self.nodes.remove(&old) else { return };
        node.birth = birth;
        if let Some(siblings) = self.children_mut(node.parent) {
            siblings.insert(node.block, new);
        }
        if let Some(key) = node.key {
            self.full.insert(key, new);
        }
        for child in node.children.values() {
            if let Some(child) = self.nodes.get_mut(child) {
                child.parent = Parent::Page(new);
            }
        }
        self.nodes.insert(new, node);
    }

    /// The key of a node, whether full or partial.
    pub(crate) fn key(&self, node: &Node) -> Option<Key> {
        let parent = match node.parent {
            Parent::Root(key) => key,
            Parent::Page(page) => self.nodes.get(&page)?.key?,
        };
        Some(node.key.unwrap_or_else(|| Key::block(&parent, node.block.tokens())))
    }

    /// A node and all its descendants, parents first.
    pub(crate) fn subtree(&self, page: PageId) -> Vec<PageId> {
        let mut pages = vec![page];
        let mut next = 0;
        while let Some(node) = pages.get(next).and_then(|page| self.nodes.get(page)) {
            pages.extend(node.children.values());
            next += 1;
        }
        pages
    }
}
