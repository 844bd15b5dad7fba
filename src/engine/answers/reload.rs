//! A device that is lost, and the answers that go on with another.
//!
//! The prompt is prefilled anew, with what tiers have of it, and the tokens of the answer are decoded anew; draws are by
//! index, so what follows is what would have followed.

use std::pin::Pin;

use super::{Answers, Update, What};
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Losses in a row, without a step that worked, after which no further device is asked for.
pub const MAX_LOSSES: usize = 3;

/// What [`Reload::reload`] returns; not `Send`.
pub type Reloading<'a> = Pin<Box<dyn Future<Output = Result<Engine>> + 'a>>;

/// A way to the same engine on a new device: the same files, the same options.
pub trait Reload {
    /// Loads the engine again. It is asked up to [`MAX_LOSSES`] times in a row.
    fn reload(&mut self) -> Reloading<'_>;
}

impl<F: AsyncFnMut() -> Result<Engine>> Reload for F {
    fn reload(&mut self) -> Reloading<'_> {
        Box::pin(self())
    }
}

impl Answers {
    /// Takes the place of an engine whose device was lost: its tiers and rates move over, and every answer goes on.
    ///
    /// # Errors
    /// Why there is no other engine. Every answer has failed with it by then.
    pub(in crate::engine) async fn recover(&mut self, lost: Error) -> Result<()> {
        // The new engine needs the memory of the old one, which a driver may not have taken back.
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
        // Whoever asks next may try again.
        self.losses = 0;
        Err(lost)
    }
}
