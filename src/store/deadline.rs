//! The time until which a caller waits. This is the crate's only timer; it works natively and in a browser.
//!
//! A future that is ready at once costs no timer. A future whose deadline passes is dropped, so it must be safe to
//! drop.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_timer::Delay;
use web_time::Instant;

/// `None`: no deadline.
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

    /// The output of `future`, or `None` if the deadline passes first. The future is polled at least once.
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
