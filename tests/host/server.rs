//! HTTP servers that answer as a test wants, or misbehave.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrIn};

/// What a client asked for.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    pub at: Instant,
}

pub struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    connections: Arc<Mutex<u32>>,
}

/// Whether the connection is kept for another request.
pub enum Then {
    KeepAlive,
    Close,
}

impl Server {
    pub fn start(
        answer: impl Fn(&Request, &mut TcpStream) -> Then + Send + Sync + 'static,
    ) -> Server {
        Server::start_at("127.0.0.1:0", answer)
    }

    /// Each connection has a thread. It ends with the process.
    pub fn start_at(
        address: &str,
        answer: impl Fn(&Request, &mut TcpStream) -> Then + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind(address).unwrap();
        let server = Server {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            connections: Arc::default(),
        };
        let answer = Arc::new(answer);
        let (seen, connections) = (server.seen.clone(), server.connections.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                *connections.lock().unwrap() += 1;
                let (answer, seen) = (answer.clone(), seen.clone());
                thread::spawn(move || serve(&stream.unwrap(), &*answer, &seen));
            }
        });
        server
    }

    /// Answers every request with this status, headers and body.
    pub fn saying(status: u16, headers: &str, body: &[u8]) -> Server {
        let (headers, body) = (headers.to_string(), body.to_vec());
        Server::start(move |_, stream| respond(stream, status, &headers, &body))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// `GET /path` of each request, in order.
    pub fn asked_for(&self) -> Vec<String> {
        let line = |r: &Request| format!("{} {}", r.method, r.path);
        self.seen().iter().map(line).collect()
    }

    pub fn connections(&self) -> u32 {
        *self.connections.lock().unwrap()
    }
}

fn serve(
    stream: &TcpStream,
    answer: &impl Fn(&Request, &mut TcpStream) -> Then,
    seen: &Mutex<Vec<Request>>,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream.try_clone().unwrap();
    while let Some(request) = read_request(&mut reader) {
        seen.lock().unwrap().push(request.clone());
        if let Then::Close = answer(&request, &mut writer) {
            return;
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut lines = reader.by_ref().lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ').map(String::from);
    let (method, path) = (words.next()?, words.next()?);
    let headers: BTreeMap<String, String> = lines
        .by_ref()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_lowercase(), value.trim().to_string()))
        })
        .collect();
    let length = headers.get("content-length").map(|text| text.parse());
    let mut body = vec![0; length.and_then(Result::ok).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path,
        headers,
        body,
        at: Instant::now(),
    })
}

/// The head of a 200 for a body of this length.
pub fn begin(stream: &mut TcpStream, length: usize) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let _ = stream.write_all(head.as_bytes());
}

/// A whole answer. `headers` are lines that each end in a newline.
pub fn respond(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> Then {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}\r\n");
    // A client that has seen enough may be gone. In one go: else the second half waits
    // until the first is acknowledged, which takes 40 ms.
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
    match headers.contains("Connection: close") {
        true => Then::Close,
        false => Then::KeepAlive,
    }
}

/// Writes these bytes one at a time.
pub fn trickle(stream: &mut TcpStream, bytes: &[u8], pause: Duration) -> Then {
    for byte in bytes {
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
        thread::sleep(pause);
    }
    Then::Close
}

/// Answers as Nova did for one of the recorded instances, byte for byte.
pub fn nova(instance: &str) -> Server {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/nova")
        .join(instance);
    Server::start(move |request, stream| {
        let name = request.path.replace('/', "%2F");
        let part = |kind: &str| std::fs::read(folder.join(format!("{name}.{kind}")));
        match (part("head"), part("body")) {
            (Ok(head), Ok(body)) if request.method == "GET" => {
                let head = String::from_utf8(head).unwrap();
                let head: String = head
                    .lines()
                    .filter(|line| !line.is_empty())
                    .map(|line| format!("{line}\r\n"))
                    .collect();
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(b"\r\n").unwrap();
                stream.write_all(&body).unwrap();
                Then::Close
            }
            // What it says to everything it does not know, a token included.
            _ => respond(stream, 404, "Connection: close\r\n", b"<html>404</html>"),
        }
    })
}

/// An address at which nobody answers, and which does not refuse either: packets to it
/// are dropped, as its queue of connections is full.
pub struct BlackHole {
    listener: TcpListener,
    _filling: Vec<TcpStream>,
}

impl BlackHole {
    pub fn new() -> BlackHole {
        BlackHole::at("127.0.0.1:0")
    }

    pub fn at(address: &str) -> BlackHole {
        let listener = TcpListener::bind(address).unwrap();
        // std asks for a queue of 128 (4096 in later versions); listen(2) again.
        socket::listen(&listener, Backlog::new(0).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let patience = Duration::from_millis(200);
        let filling: Vec<TcpStream> = (0..16)
            .map_while(|_| TcpStream::connect_timeout(&address, patience).ok())
            .collect();
        assert!(
            filling.len() < 16,
            "the queue of connections does not fill up"
        );
        BlackHole {
            listener,
            _filling: filling,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }
}

/// An address that refuses connections for as long as this lives: it is bound, and
/// nobody listens.
pub struct Refusing(OwnedFd);

impl Refusing {
    pub fn new() -> Refusing {
        let any = SockaddrIn::from_str("127.0.0.1:0").unwrap();
        let (family, kind) = (AddressFamily::Inet, SockType::Stream);
        let socket = socket::socket(family, kind, SockFlag::empty(), None).unwrap();
        socket::bind(socket.as_raw_fd(), &any).unwrap();
        Refusing(socket)
    }

    pub fn url(&self) -> String {
        let address: SockaddrIn = socket::getsockname(self.0.as_raw_fd()).unwrap();
        format!("http://{address}")
    }
}
