//! How many layers of many files does a process make at once?
//!
//! One. The others wait for it when they turn out to be large, so that memory is what one such layer takes, and a
//! little for each of the others, however many layers an image has or steps a build.
//!
//! Whoever has the room waits for nothing but what it reads and writes, so it is free again.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rbuild_image::erofs::ErofsTree;

/// What a layer may take without asking: that of some forty thousand files.
const LITTLE: usize = 4 << 20;

/// Whether it is taken.
#[derive(Debug, Default)]
pub(crate) struct Room {
    taken: Mutex<bool>,
    free: Condvar,
}

/// One who may need it.
#[derive(Debug)]
#[must_use = "dropping it gives the room back"]
pub(super) struct Guest {
    room: Arc<Room>,
    inside: bool,
}

impl Guest {
    pub(super) fn of(room: &Arc<Room>) -> Self {
        Self { room: Arc::clone(room), inside: false }
    }

    /// Waits for the room if the tree has become large.
    pub(super) fn hold(&mut self, tree: &ErofsTree) {
        if !self.inside && tree.memory() > LITTLE {
            self.enter();
        }
    }

    fn enter(&mut self) {
        let taken = self.room.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self.room.free.wait_while(taken, |taken| *taken).unwrap_or_else(PoisonError::into_inner);
        *taken = true;
        self.inside = true;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.inside {
            *self.room.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
            self.room.free.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use rbuild_image::{Change, Entry, EntryKind, Timestamp};

    use super::*;

    fn tree(files: u32) -> ErofsTree {
        let mut tree = ErofsTree::new();
        for number in 0..files {
            let (path, kind) = (format!("{number:09}").into(), EntryKind::Fifo);
            let (mode, uid, gid, mtime, xattrs) = (0, 0, 0, Timestamp::default(), Default::default());
            tree.apply(&Change::Upsert(Entry { path, kind, mode, uid, gid, mtime, xattrs }), 0).unwrap();
        }
        tree
    }

    #[test]
    fn large_layers_come_one_after_the_other_and_small_ones_do_not_wait() {
        /// Long enough for whoever does not wait to be seen.
        const MOMENT: Duration = Duration::from_millis(20);
        let (large, small) = (tree(60_000), tree(100));
        let room = Arc::default();
        let (is_left, inside) = (AtomicBool::new(false), AtomicUsize::new(0));
        let (ready, begun) = mpsc::channel();
        let mut first = Guest::of(&room);
        first.hold(&large);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let ready = ready.clone();
                let (large, room, is_left, inside) = (&large, &room, &is_left, &inside);
                scope.spawn(move || {
                    let mut guest = Guest::of(room);
                    ready.send(()).unwrap();
                    guest.hold(large);
                    assert!(is_left.load(Ordering::SeqCst), "somebody has the room");
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    guest.hold(large);
                    std::thread::sleep(MOMENT);
                    inside.fetch_sub(1, Ordering::SeqCst);
                });
            }
            for _ in 0..3 {
                begun.recv().unwrap();
            }
            std::thread::sleep(MOMENT);
            Guest::of(&room).hold(&small);
            is_left.store(true, Ordering::SeqCst);
            drop(first);
        });
        Guest::of(&room).hold(&large);
    }
}
