//! A proxy to a server that counts round trips and can fall silent.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

#[derive(Default)]
struct State {
    turns: usize,
    /// Whether the client spoke last.
    asked: bool,
    /// The turn from which nothing is returned.
    silent_from: Option<usize>,
}

pub struct Proxy {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                for asks in [true, false] {
                    let (from, to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
                    let (from, to) = if asks { (from, to) } else { (to, from) };
                    let state = shared.clone();
                    thread::spawn(move || forward(from, to, asks, &state));
                }
            }
        });
        Self { port, state }
    }

    /// How many turns the client has had since the last call.
    pub fn turns(&self) -> usize {
        let mut state = self.state.lock().unwrap();
        state.asked = false;
        std::mem::take(&mut state.turns)
    }

    /// Falls silent after that many turns.
    pub fn silent_from(&self, turns: usize) {
        self.state.lock().unwrap().silent_from = Some(turns);
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, asks: bool, state: &Mutex<State>) {
    let mut bytes = vec![0; 1 << 20];
    while let Ok(count) = from.read(&mut bytes)
        && count > 0
    {
        let mut state = state.lock().unwrap();
        state.turns += usize::from(asks && !state.asked);
        state.asked = asks;
        let silent = !asks && state.silent_from.is_some_and(|turns| state.turns >= turns);
        drop(state);
        if !silent && to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}
