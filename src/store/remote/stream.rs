//! A TCP connection, plain or through TLS. A whole call has one deadline, however slowly the other side proceeds.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring};

pub(crate) enum Stream {
    Plain(Bounded),
    Tls(Box<StreamOwned<ClientConnection, Bounded>>),
}

/// A socket with a deadline.
pub(crate) struct Bounded {
    socket: TcpStream,
    until: Instant,
}

impl Stream {
    /// TLS where there is a configuration for it.
    pub(crate) fn open(host: &str, port: u16, tls: Option<&Arc<ClientConfig>>, until: Instant) -> io::Result<Self> {
        let bare = host.trim_matches(['[', ']']);
        let mut bounded = Bounded { socket: connect(bare, port, until)?, until };
        let Some(config) = tls else { return Ok(Self::Plain(bounded)) };
        let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
        let mut session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        // The limit is below the caller's, so that the reason is known before the caller gives up. No call with enough
        // time fails: with TLS 1.2 the handshake takes two of the three remaining round trips.
        bounded.until -= until.saturating_duration_since(Instant::now()) / 4;
        session.complete_io(&mut bounded).map_err(unfinished)?;
        bounded.until = until;
        Ok(Self::Tls(Box::new(StreamOwned::new(session, bounded))))
    }

    /// Sets the deadline of the next call.
    pub(crate) fn allow(&mut self, until: Instant) {
        match self {
            Self::Plain(bounded) => bounded.until = until,
            Self::Tls(stream) => stream.sock.until = until,
        }
    }
}

fn connect(host: &str, port: u16, until: Instant) -> io::Result<TcpStream> {
    let mut problem = io::Error::other("the host has no address");
    for address in (host, port).to_socket_addrs()? {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(socket) => return socket.set_nodelay(true).map(|()| socket),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

/// A server that does not speak TLS may close the connection or wait: to a Redis, the handshake looks like an
/// unfinished command.
fn unfinished(error: io::Error) -> io::Error {
    // The error that rustls found.
    if error.kind() == ErrorKind::InvalidData {
        return error;
    }
    io::Error::other("it did not finish a TLS handshake; if it does not speak TLS, write the URL without the s")
}

impl Bounded {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Bounded {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            self.socket.set_read_timeout(self.left()?)?;
            match self.socket.read(bytes) {
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                done => return done,
            }
        }
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.left()?)?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// At least one.
pub(crate) fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let fault = |problem: String| format!("ca={file}: {problem}; name a PEM file of certificates");
    let found = CertificateDer::pem_file_iter(Path::new(file)).map_err(|error| fault(error.to_string()))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|error| fault(error.to_string()))?;
    if found.is_empty() { Err(fault("it holds none".into())) } else { Ok(found) }
}

/// A TLS configuration that trusts the certificates of `ca`, or the public ones.
pub(crate) fn tls(ca: Option<&str>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(file) => {
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| format!("ca={file}: {error}"))?;
            }
        }
    }
    let provider = Arc::new(ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}

/// Explains the error if the cause is the certificate or the protocol.
pub(crate) fn tls_problem(error: &io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidMessage(_) => Some("it does not speak TLS; write the URL without the s".into()),
        problem @ rustls::Error::InvalidCertificate(_) => {
            Some(format!("{problem}; name the authority's file as ?ca=FILE, and the host as the certificate does"))
        }
        _ => None,
    }
}
