//! The KV cache's bookkeeping, without a GPU: a simulated device holds, for every slot, a digest of the tokens that it
//! depends on.

mod behaviour;
mod continuation;
mod explain;
mod forget;
mod fuzz;
mod keys;
mod left;
mod reasons;
mod state;
mod window;
mod world;
