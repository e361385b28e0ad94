//! A plain HTTP server on loopback that keeps what it is told: a sink's other end, slow or away when told to be.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

/// What was told in one request.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Told {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }
}

/// Answers with the status that it is set to; 0: reads and never answers.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    told: Arc<Mutex<Vec<Told>>>,
    status: Arc<AtomicU16>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            told: Arc::default(),
            status: Arc::new(AtomicU16::new(200)),
        };
        let own = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let own = own.clone();
                std::thread::spawn(move || own.serve(stream));
            }
        });
        receiver
    }

    pub(crate) fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// How many requests it took.
    pub(crate) fn count(&self) -> usize {
        self.told.lock().unwrap().len()
    }

    /// All bodies, one after the other.
    pub(crate) fn text(&self) -> String {
        self.told().iter().map(|told| told.body.as_str()).collect()
    }

    /// Waits until what was told satisfies this.
    pub(crate) async fn until(&self, satisfied: impl Fn(&str) -> bool) {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !satisfied(&self.text()) {
            assert!(std::time::Instant::now() < until, "the sink was told only: {}", self.text());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    fn serve(&self, stream: TcpStream) {
        let mut out = stream.try_clone().unwrap();
        let mut input = BufReader::new(stream);
        while let Some(told) = read(&mut input) {
            let status = self.status.load(Ordering::SeqCst);
            if status == 0 {
                // Held open, and silent, as a stalled server is.
                std::thread::park();
            }
            if status == 200 {
                self.told.lock().unwrap().push(told);
            }
            if write!(out, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").is_err() {
                return;
            }
        }
    }
}

fn read(input: &mut BufReader<TcpStream>) -> Option<Told> {
    let mut line = String::new();
    input.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        input.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let mut body = vec![0; length];
    input.read_exact(&mut body).ok()?;
    Some(Told { headers, body: String::from_utf8(body).ok()? })
}
