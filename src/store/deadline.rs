//! A moment after which nobody waits any more. The one timer of the crate: it works natively and in a browser.
//!
//! What is ready costs no timer. A future whose deadline passes is dropped, so it must be one that may be.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_timer::Delay;
use web_time::Instant;

/// `None` is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    pub const NEVER: Self = Self(None);

    pub fn after(duration: Duration) -> Self {
        Self(Instant::now().checked_add(duration))
    }

    pub(crate) fn left(&self) -> Duration {
        self.0.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
    }

    pub fn passed(&self) -> bool {
        self.left().is_zero()
    }

    /// What `future` gives, or `None` where it does not in time. It is asked once in any case.
    pub async fn bound<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let mut timer = None;
        poll_fn(|context| {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            match self.0 {
                None => Poll::Pending,
                Some(_) => pin!(timer.get_or_insert_with(|| Delay::new(self.left()))).poll(context).map(|()| None),
            }
        })
        .await
    }
}
