//! A real Redis server for one test, on a free port of loopback and in its own folder, killed at the end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

pub struct Redis {
    child: Child,
    folder: TempDir,
    options: Vec<String>,
    pub port: u16,
}

impl Redis {
    /// Starts it with options in the form of `redis-server`: `["--requirepass", "secret"]`. `PORT` is replaced by the port.
    pub fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options: Vec<String> = options.iter().map(|option| option.to_string()).collect();
        for _ in 0..10 {
            // Another process may take the port before the server does.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut child = spawn(&folder, port, &options);
            if answers(&mut child, port) {
                return Self { child, folder, options, port };
            }
            let _ = child.kill();
            child.wait().unwrap();
        }
        panic!("the server does not start with {options:?}");
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills it, as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Restarts it empty, on the same port.
    pub fn restart(&mut self) {
        self.child = spawn(&self.folder, self.port, &self.options);
        assert!(answers(&mut self.child, self.port), "the server did not come back on port {}", self.port);
    }

    /// Stops it (`STOP`), so that it accepts connections and answers nothing, or resumes it (`CONT`).
    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// The server's answer: one line, or the bytes of a string.
    pub fn ask(&self, words: &[&[u8]]) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "*{}\r\n", words.len()).unwrap();
        for word in words {
            write!(stream, "${}\r\n", word.len()).unwrap();
            stream.write_all(word).unwrap();
            stream.write_all(b"\r\n").unwrap();
        }
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.strip_prefix('$').map(|length| length.trim().parse::<usize>().unwrap()) {
            Some(length) => {
                let mut bytes = vec![0; length];
                reader.read_exact(&mut bytes).unwrap();
                bytes
            }
            None => line.trim_end().into(),
        }
    }

    pub fn text(&self, words: &[&str]) -> String {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        String::from_utf8(self.ask(&words)).unwrap()
    }

    /// The names of all values.
    pub fn names(&self) -> Vec<Vec<u8>> {
        let lines = self.ask(&[b"EVAL", b"return table.concat(redis.call('keys', '*'), '\\n')", b"0"]);
        lines.split(|byte| *byte == b'\n').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
    }

    /// The number of values.
    pub fn size(&self) -> usize {
        self.text(&["DBSIZE"]).trim_start_matches(':').parse().unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &TempDir, port: u16, options: &[String]) -> Child {
    // The last is the server under another name, as in Debian's redis-tools.
    for program in ["redis-server", "valkey-server", "redis-check-rdb"] {
        let mut command = Command::new(program);
        command.arg0("redis-server").current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        let own = options.iter().map(|option| if option == "PORT" { port.to_string() } else { option.clone() });
        if let Ok(child) = command.args(own).spawn() {
            return child;
        }
    }
    panic!("no redis-server found; run scripts/redis.sh, or install Redis or Valkey with your package manager");
}

/// Waits until the server answers; false if it ended.
fn answers(child: &mut Child, port: u16) -> bool {
    for _ in 0..1_000 {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        // Any answer means that the server is up. With TLS, it is the end of the connection.
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            let _ = stream.write_all(b"PING\r\n").and_then(|()| stream.read(&mut [0; 64]));
            return child.try_wait().unwrap().is_none();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}
