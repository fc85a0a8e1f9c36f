//! How does a user end a command early?
//!
//! The first SIGINT, SIGTERM or SIGHUP drops the command's future, whose guards kill its processes and remove what is
//! half done. The second one ends the program where it stands, and so does the first if the command's thread is busy
//! with something that cannot be dropped, such as a read of standard input. Nothing half done is visible to the next
//! command in any case.
//!
//! A thread of its own listens, since the command's may be busy. As long as a command has not waited for anything, there
//! is neither that thread nor an event loop, and signals do what they do by default: end the program.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::failure::Failure;

/// How long the command's thread has to notice.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs a command's future on an event loop of this one thread.
pub fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = runtime().map_err(|error| Failure::io("cannot start the event loop", error))?;
    let result = runtime.block_on(command);
    // Threads of the blocking pool may still be at work for a command that was interrupted; nobody waits for them.
    runtime.shutdown_background();
    result
}

/// Runs a command's future as far as it comes without waiting, which may be to its end. Else does what has to be done
/// `before` there are threads, and runs the rest as [`block_on`] does, until the user is tired of it.
pub fn block_on_demand(
    command: impl Future<Output = Result<(), Failure>>,
    before: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut command = pin!(command);
    if let Poll::Ready(result) = command.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return result;
    }
    before()?;
    block_on(interruptible(command))
}

/// Runs a future until it is done or the user is tired of it.
pub async fn interruptible<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let noticed = Arc::new(AtomicBool::new(false));
    let (tell, told) = oneshot::channel();
    // Dropped at the end of this function, which ends the listener.
    let (_done, ended) = oneshot::channel();
    let flag = Arc::clone(&noticed);
    let listener = thread::Builder::new().name("signals".to_owned()).spawn(move || listen(tell, ended, &flag));
    listener.map_err(|error| Failure::io("cannot listen for signals", error))?;
    let interrupted = async {
        let told = told.await;
        noticed.store(true, Ordering::Relaxed);
        told
    };
    tokio::select! {
        result = work => result,
        Ok(()) = interrupted => Err(Failure::Interrupted),
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Tells of the first signal and obeys the second, unless the work ends before.
fn listen(tell: oneshot::Sender<()>, ended: oneshot::Receiver<()>, noticed: &AtomicBool) {
    let Ok(runtime) = runtime() else { return };
    runtime.block_on(async {
        // Without handlers signals do what they do by default, which is a way to end a command, too.
        let Ok(mut ends) = Ends::new() else { return };
        let insisted = async {
            ends.next().await;
            if tell.send(()).is_err() {
                return;
            }
            if tokio::time::timeout(PATIENCE, ends.next()).await.is_err() && noticed.load(Ordering::Relaxed) {
                ends.next().await;
            }
            leave();
        };
        tokio::select! {
            () = insisted => {}
            _ = ended => {}
        }
    });
}

#[expect(clippy::disallowed_methods, clippy::exit, reason = "the thread that could return from main does not listen")]
fn leave() {
    std::process::exit(130);
}

/// The signals that ask for the end.
struct Ends([Signal; 3]);

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
