//! What do the tests talk to? The real registry as a process, and a server that answers as a test tells it.

#![expect(dead_code, reason = "each test program uses a part of it")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use rbuild_image::{Descriptor, Family, Manifest, media};
use rbuild_registry::{Client, Config, CredentialStore, Error, Retry};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

const PROGRAM: &str = "docker-registry";

/// A configuration that reads nothing of the machine it runs on and does not wait long.
pub(crate) fn quiet() -> Config {
    Config {
        credentials: CredentialStore::none(),
        certificates: Vec::new(),
        retry: Retry { first_pause: Duration::from_millis(5), ..Retry::default() },
        idle_timeout: Duration::from_secs(10),
        ..Config::default()
    }
}

/// A Docker configuration file with one user.
pub(crate) fn credentials(directory: &Path, registry: &str, entry: &str) -> CredentialStore {
    let path = directory.join("config.json");
    std::fs::write(&path, format!(r#"{{"auths":{{"{registry}":{entry}}}}}"#)).unwrap();
    CredentialStore::at(path)
}

/// A small image: the manifest's descriptor and bytes, the configuration, a layer.
pub(crate) struct Image {
    pub(crate) descriptor: Descriptor,
    pub(crate) manifest: Bytes,
    pub(crate) blobs: Vec<(Descriptor, Bytes)>,
}

impl Image {
    pub(crate) fn new(seed: u8) -> Self {
        let config = Bytes::from(format!(r#"{{"architecture":"amd64","os":"linux","seed":{seed}}}"#));
        let layer: Bytes = (0..300_000_u32).map(|number| (number / 7) as u8 ^ seed).collect();
        let blobs = vec![
            (Descriptor::of(media::OCI_CONFIG, &config), config),
            (Descriptor::of(media::OCI_LAYER, &layer), layer),
        ];
        let manifest = Manifest::new(Family::Oci, blobs[0].0.clone(), vec![blobs[1].0.clone()]);
        let (bytes, descriptor) = manifest.to_bytes();
        Self { descriptor, manifest: bytes.into(), blobs }
    }
}

/// Pieces of `bytes`, as a store would read them.
pub(crate) fn pieces(
    bytes: &Bytes,
) -> impl Fn() -> stream::BoxStream<'static, std::io::Result<Bytes>> + Send + Sync + use<> {
    let bytes = bytes.clone();
    move || {
        let chunks: Vec<_> = bytes.chunks(10_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        stream::iter(chunks).boxed()
    }
}

pub(crate) async fn read_blob(client: &Client, name: &str, of: &Descriptor, from: u64) -> Result<Vec<u8>, Error> {
    let mut chunks = client.blob(&name.parse().unwrap(), of, from).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

/// A `docker-registry` process.
pub(crate) struct RealRegistry {
    child: Child,
    pub(crate) address: String,
    pub(crate) directory: tempfile::TempDir,
}

impl RealRegistry {
    /// Starts one on a free port; `None`, and a word about it, if the program is not installed. `prepare` may put
    /// files into the directory and returns what to add to the configuration's `http` section and after it.
    pub(crate) fn start(prepare: impl FnOnce(&Path) -> (String, String)) -> Option<Self> {
        if Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).status().is_err() {
            println!("skipped: `{PROGRAM}` is not installed");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let (http, rest) = prepare(directory.path());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let data = directory.path().join("data");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:{port}\n{http}{rest}",
            data.display()
        );
        let path = directory.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let child =
            Command::new(PROGRAM).arg("serve").arg(&path).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut registry = Self { child, address: format!("127.0.0.1:{port}"), directory };
        let start = Instant::now();
        while std::net::TcpStream::connect(&registry.address).is_err() {
            let ended = registry.child.try_wait().unwrap();
            assert!(ended.is_none() && start.elapsed() < Duration::from_secs(20), "the registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }

    pub(crate) fn plain() -> Option<Self> {
        Self::start(|_| Default::default())
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a tool that a test needs; false, and a word about it, if it is not installed.
pub(crate) fn run(directory: &Path, program: &str, arguments: &[&str]) -> bool {
    match Command::new(program).args(arguments).current_dir(directory).output() {
        Ok(output) => {
            assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(_) => {
            println!("skipped: `{program}` is not installed");
            false
        }
    }
}

/// A request as the fake server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What the fake server answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
    silent: bool,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Nothing, for ever, on a connection that stays open. With [`Self::cut`], the answer's beginning comes first.
    pub(crate) fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    /// Breaks the connection after so many bytes of the body.
    pub(crate) fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;
type Interrupter = dyn Fn(&Request) -> Option<(usize, Option<Reply>)> + Send + Sync;

/// An HTTP server on a free port that answers by a function and remembers what it was asked.
pub(crate) struct FakeServer {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Request>>>,
    connections: tokio::task::JoinSet<()>,
}

impl FakeServer {
    pub(crate) async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::impatient(handler, |_| None).await
    }

    /// One that may interrupt a request, of which it knows the header so far: after so many bytes of the body it
    /// answers, or not even that, and closes the connection.
    pub(crate) async fn impatient(
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
        interrupter: impl Fn(&Request) -> Option<(usize, Option<Reply>)> + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut connections = tokio::task::JoinSet::new();
        let (handler, record): (Arc<Handler>, _) = (Arc::new(handler), seen.clone());
        let interrupter: Arc<Interrupter> = Arc::new(interrupter);
        connections.spawn(async move {
            let mut inner = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                inner.spawn(serve(socket, handler.clone(), interrupter.clone(), record.clone()));
            }
        });
        Self { address, seen, connections }
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Method and path of each.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }
}

async fn serve(
    socket: tokio::net::TcpStream,
    handler: Arc<Handler>,
    interrupter: Arc<Interrupter>,
    seen: Arc<Mutex<Vec<Request>>>,
) {
    let mut socket = BufReader::new(socket);
    while let Some(mut request) = read_head(&mut socket).await {
        let interruption = interrupter(&request);
        let most = interruption.as_ref().map_or(usize::MAX, |(most, _)| *most);
        if read_body(&mut socket, &mut request, most).await.is_none() && interruption.is_none() {
            // Remembered all the same: the client has gone.
            seen.lock().unwrap().push(request);
            return;
        }
        if let Some((_, reply)) = interruption {
            seen.lock().unwrap().push(request);
            if let Some(reply) = reply {
                drop(write_reply(&mut socket, &reply, false).await);
            }
            return;
        }
        let head = request.method == "HEAD";
        // This one only finds out the protocol.
        let reply = if request.path == "/v2/" {
            Reply::new(200, "{}")
        } else {
            let reply = handler(&request);
            seen.lock().unwrap().push(request);
            reply
        };
        if write_reply(&mut socket, &reply, head).await.is_err() || reply.cut.is_some() {
            return;
        }
    }
}

async fn write_reply(socket: &mut BufReader<tokio::net::TcpStream>, reply: &Reply, head: bool) -> std::io::Result<()> {
    if reply.silent && reply.cut.is_none() {
        return std::future::pending().await;
    }
    let mut text = format!("HTTP/1.1 {} X\r\n", reply.status);
    if !reply.headers.iter().any(|(name, _)| name == "content-length") {
        text.push_str(&format!("content-length: {}\r\n", reply.body.len()));
    }
    reply.headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    text.push_str("\r\n");
    socket.get_mut().write_all(text.as_bytes()).await?;
    let end = reply.cut.unwrap_or(reply.body.len());
    if !head {
        socket.get_mut().write_all(&reply.body[..end]).await?;
    }
    if reply.silent { std::future::pending().await } else { Ok(()) }
}

async fn read_head(socket: &mut BufReader<tokio::net::TcpStream>) -> Option<Request> {
    let mut line = String::new();
    socket.read_line(&mut line).await.ok().filter(|count| *count > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Some(Request { method, path, headers, body: Vec::new() })
}

/// `None` if the client goes before the end. At most about `most` bytes are read.
async fn read_body(socket: &mut BufReader<tokio::net::TcpStream>, request: &mut Request, most: usize) -> Option<()> {
    let chunked = request.header("transfer-encoding") == Some("chunked");
    let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    while request.body.len() < most {
        let length = if chunked {
            let mut line = String::new();
            socket.read_line(&mut line).await.ok().filter(|count| *count > 0)?;
            usize::from_str_radix(line.trim_end(), 16).ok()?
        } else {
            length.min(most)
        };
        let start = request.body.len();
        request.body.resize(start + length, 0);
        socket.read_exact(&mut request.body[start..]).await.ok()?;
        if !chunked {
            break;
        }
        socket.read_line(&mut String::new()).await.ok()?;
        if length == 0 {
            break;
        }
    }
    Some(())
}
