//! The KV cache's bookkeeping without a GPU: for every slot, a simulated device holds a digest of the tokens that its KV
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
