//! A lost device, and how answers continue on another.
//!
//! The prompt is prefilled again, with help of the tiers, and the known tokens of the answer are decoded again. Draws
//! depend on the token's index, so the answer continues as it would have.

use std::pin::Pin;

use super::{Answers, Update, What};
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Losses in a row, without a successful step, after which no further device is requested.
pub const MAX_LOSSES: usize = 3;

/// The future of [`Reload::reload`]. It is not `Send`.
pub type Reloading<'a> = Pin<Box<dyn Future<Output = Result<Engine>> + 'a>>;

/// Loads the same engine on a new device, from the same files and with the same options.
pub trait Reload {
    /// Loads the engine again. It is called up to [`MAX_LOSSES`] times in a row.
    fn reload(&mut self) -> Reloading<'_>;
}

impl<F: AsyncFnMut() -> Result<Engine>> Reload for F {
    fn reload(&mut self) -> Reloading<'_> {
        Box::pin(self())
    }
}

impl Answers {
    /// Replaces an engine whose device was lost. Tiers and rates move over, and every answer continues.
    ///
    /// # Errors
    /// Why no engine could be loaded. Every answer has failed with it by then.
    pub(in crate::engine) async fn recover(&mut self, lost: Error) -> Result<()> {
        // The new engine needs the memory of the old one, which the driver may not have freed.
        self.engine.destroy_device();
        let engine = match self.load_again(lost).await {
            Ok(engine) => engine,
            Err(error) => {
                self.fail(&error);
                return Err(error);
            }
        };
        let mut old = std::mem::replace(&mut self.engine, engine);
        self.engine.adopt(old.detach());
        for mut live in std::mem::take(&mut self.live) {
            match self.engine.submit(live.again()) {
                Ok(sequence) => {
                    live.follow(sequence);
                    self.engine.hold(sequence, live.is_held);
                    self.live.push(live);
                }
                Err(error) => self.told.push(Update { id: live.id, what: What::Failed(error) }),
            }
        }
        Ok(())
    }

    async fn load_again(&mut self, mut lost: Error) -> Result<Engine> {
        let Some(reload) = &mut self.reload else { return Err(lost) };
        while self.losses < MAX_LOSSES {
            self.losses += 1;
            match reload.reload().await {
                Err(again @ Error::DeviceLost { .. }) => lost = again,
                done => return done,
            }
        }
        // The next request may try again.
        self.losses = 0;
        Err(lost)
    }
}
