//! How does a user end a command early?
//!
//! The first SIGINT, SIGTERM or SIGHUP drops the command's future, whose guards kill its processes and remove what is
//! half done. The second one ends the program where it stands; nothing half done is visible to the next.

use std::future::Future;
use std::io;
use std::thread;

use rustix::process::{Signal, getpid, kill_process};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use crate::failure::Failure;

/// Runs a command's future on an event loop of this one thread.
pub fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("cannot start the event loop", error))?;
    let result = runtime.block_on(command);
    // Threads of the blocking pool may still be at work for a command that was interrupted; nobody waits for them.
    runtime.shutdown_background();
    result
}

/// Runs a future until it is done or the user is tired of it.
pub async fn interruptible<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut ends = Ends::new().map_err(|error| Failure::io("cannot listen for signals", error))?;
    tokio::select! {
        result = work => result,
        () = ends.next() => {
            thread::spawn(die_at_next);
            Err(Failure::Interrupted)
        }
    }
}

/// The signals that ask for the end.
struct Ends([Signals; 3]);

impl Ends {
    fn new() -> io::Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Waits, while the first thread cleans up, for the user to insist.
fn die_at_next() {
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        if let Ok(mut ends) = Ends::new() {
            ends.next().await;
        }
    });
    kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
}
