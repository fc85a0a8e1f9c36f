//! Which web server do tests download from?
//!
//! A small one on a port that the kernel chooses, which remembers what it was asked and can misbehave: redirect, refuse,
//! break off in the middle of a body.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `HEAD`.
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header, its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Besides `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body, which `Content-Length` announces.
    pub body: Vec<u8>,
    /// After so many bytes of the body the connection breaks.
    pub cut: Option<usize>,
}

impl Answer {
    /// 200 with a body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into(), ..Self::default() }
    }

    /// Only a status.
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With the connection breaking after so many bytes of the body.
    #[must_use]
    pub fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }

    /// A file that a well-behaved server has: with an entity tag, which answers conditional and range requests.
    pub fn file(request: &Request, body: &[u8], tag: &str) -> Self {
        let quoted = format!("\"{tag}\"");
        if request.header("if-none-match") == Some(&quoted) {
            return Self::status(304).header("ETag", &quoted);
        }
        let start =
            request.header("range").and_then(|text| text.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let whole = Self::ok(body).header("ETag", &quoted);
        match start {
            Some(start) if request.header("if-range") == Some(&quoted) && start < body.len() => {
                let range = format!("bytes {start}-{}/{}", body.len() - 1, body.len());
                Self { status: 206, body: body[start..].to_vec(), ..whole }.header("Content-Range", &range)
            }
            _ => whole,
        }
    }
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// A web server, as long as the value lives.
#[must_use = "dropping a server stops it"]
pub struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Answers each request as `handler` says, in a thread of its own.
    pub fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the local host has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let server = Self { port, asked: Arc::default(), stop: Arc::default() };
        let (asked, stop): (_, Arc<AtomicBool>) = (Arc::clone(&server.asked), Arc::clone(&server.stop));
        let handler: Arc<Handler> = Arc::new(handler);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (handler, asked) = (Arc::clone(&handler), Arc::clone(&asked));
                thread::spawn(move || serve(stream, &*handler, &asked));
            }
        });
        server
    }

    /// The files of a directory, as they are: enough for git's dumb protocol.
    pub fn files(directory: &Path) -> Self {
        let root: PathBuf = directory.to_owned();
        Self::start(move |request| file_of(&root, request))
    }

    /// An address on this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As [`Server::asked`], which is then forgotten.
    pub fn take_asked(&self) -> Vec<Request> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Server").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// A file below `root`, or 404.
pub fn file_of(root: &Path, request: &Request) -> Answer {
    let path = request.path.split('?').next().unwrap_or_default().trim_start_matches('/');
    if path.split('/').any(|part| part == "..") {
        return Answer::status(404);
    }
    std::fs::read(root.join(path)).map_or_else(|_| Answer::status(404), Answer::ok)
}

/// One connection, any number of requests.
fn serve(mut stream: TcpStream, handler: &Handler, asked: &Mutex<Vec<Request>>) {
    let Ok(input) = stream.try_clone() else { return };
    let mut input = BufReader::new(input);
    while let Some(request) = read_request(&mut input) {
        asked.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        let answer = handler(&request);
        let mut head = format!("HTTP/1.1 {} X\r\n", answer.status);
        if answer.status != 304 {
            head += &format!("Content-Length: {}\r\n", answer.body.len());
        }
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let body = if request.method == "HEAD" || answer.status == 304 { &[][..] } else { &answer.body };
        let sent = answer.cut.unwrap_or(body.len()).min(body.len());
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..sent])).is_err() {
            return;
        }
        if answer.cut.is_some() {
            drop(stream.shutdown(Shutdown::Both));
            return;
        }
    }
}

fn read_request(input: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    input.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let request = Request { method, path, headers };
    let length = request.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    input.read_exact(&mut body).ok()?;
    Some(request)
}
