//! Reference counts of pages, and the stack of free pages.
//!
//! The pool knows neither tokens nor the index. A page is free (on the stack), held (count > 0), or neither: cached, which
//! `Cache` accounts for. Every operation is O(1).

use super::PageId;

pub(super) struct Pool {
    refs: Vec<u32>,
    free: Vec<PageId>,
}

impl Pool {
    pub(crate) fn new(capacity: usize) -> Self {
        let mut pool = Self { refs: Vec::new(), free: Vec::new() };
        pool.grow(capacity);
        pool
    }

    pub(crate) fn capacity(&self) -> usize {
        self.refs.len()
    }

    /// Adds pages up to `capacity`; their ids follow the old ones. Never shrinks.
    pub(crate) fn grow(&mut self, capacity: usize) {
        let old = self.refs.len();
        if capacity > old {
            self.refs.resize(capacity, 0);
            self.free.splice(0..0, (old as PageId..capacity as PageId).rev());
        }
    }

    pub(crate) fn refs(&self, page: PageId) -> u32 {
        self.refs[page as usize]
    }

    pub(crate) fn free(&self) -> &[PageId] {
        &self.free
    }

    /// A free page, with a reference count of one.
    pub(crate) fn take(&mut self) -> Option<PageId> {
        let page = self.free.pop()?;
        self.refs[page as usize] = 1;
        Some(page)
    }

    pub(crate) fn retain(&mut self, page: PageId) {
        self.refs[page as usize] += 1;
    }

    /// Drops one reference; true if it was the last.
    pub(crate) fn release(&mut self, page: PageId) -> bool {
        let refs = &mut self.refs[page as usize];
        *refs -= 1;
        *refs == 0
    }

    /// Returns a page that nobody holds and that is not indexed.
    pub(crate) fn put(&mut self, page: PageId) {
        debug_assert_eq!(self.refs(page), 0);
        self.free.push(page);
    }
}
