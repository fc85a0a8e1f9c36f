//! Which system calls has rustix no safe form of?
//!
//! The only module of rbuild with `unsafe`: one call per function, each small enough to be judged on its own. Functions
//! whose safety depends on the process having one thread check that themselves.
#![expect(unsafe_code, reason = "the one module that may talk to the kernel directly")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;
use std::time::Duration;

use rbuild_core::Resources;
use rustix::process::Pid;
use rustix::thread::UnshareFlags;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes sure that this process has one thread.
pub(crate) fn single_threaded() -> io::Result<()> {
    // A thread that was joined has ended a moment later.
    for _ in 0..1000 {
        // SAFETY: to stop sharing with other threads has no effect where there are none, and fails where there are.
        if unsafe { libc::unshare(libc::CLONE_THREAD) } == 0 {
            return Ok(());
        }
        std::thread::yield_now();
    }
    Err(io::Error::other("this process has more than one thread"))
}

/// Duplicates a process that has a single thread. `None` in the child.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    single_threaded()?;
    // SAFETY: fork has no memory preconditions; what makes it dangerous, locks held by other threads, cannot be: there
    // are no other threads.
    let pid = check(libc::c_long::from(unsafe { libc::fork() }))?;
    Ok(Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?))
}

/// Duplicates a process that has a single thread; the child is in new namespaces, `flags` being `CLONE_NEW*`. Returns
/// the child and a descriptor of it, or `None` in the child.
pub(crate) fn clone_into(flags: i32) -> io::Result<Option<(Pid, OwnedFd)>> {
    single_threaded()?;
    let mut descriptor: libc::c_int = -1;
    let all = flags | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with a null stack, clone behaves as fork: the child continues on a copy of this
    // stack. `descriptor` is a valid place for the kernel to write to until the call returns. No other thread holds a
    // lock, there being none. The argument order (flags, stack, parent_tid, …) is that of x86-64, aarch64, riscv64.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone, libc::c_long::from(all), 0usize, ptr::from_mut(&mut descriptor), 0usize, 0usize)
    })?;
    let Some(pid) = Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?) else { return Ok(None) };
    // SAFETY: clone succeeded with CLONE_PIDFD, so `descriptor` is an open descriptor that nobody else owns.
    Ok(Some((pid, unsafe { OwnedFd::from_raw_fd(descriptor) })))
}

/// Memory for the stack of a child that shares this process's memory.
#[derive(Debug)]
pub(crate) struct Stack {
    lowest: *mut libc::c_void,
}

impl Stack {
    const SIZE: usize = 1 << 20;

    /// Never given back: a process needs one for as long as it lives.
    pub(crate) fn new() -> io::Result<Self> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at a place of the kernel's choice touches nothing that exists.
        let lowest = unsafe { libc::mmap(ptr::null_mut(), Self::SIZE, protection, flags | libc::MAP_STACK, -1, 0) };
        if lowest == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the page belongs to the mapping made above, of which nothing is used yet. A stack that is too small
        // ends there.
        check(libc::c_long::from(unsafe { libc::mprotect(lowest, 4096, libc::PROT_NONE) }))?;
        Ok(Self { lowest })
    }
}

/// Runs `child` in a new process, in new namespaces (`flags` being `CLONE_NEW*`), that borrows this process's memory, and
/// returns when that process has executed a program or ended. This process, which must have one thread, stands still
/// meanwhile. So nothing has to be copied; what `child` writes is there afterwards, and what it has not dropped when it
/// executes a program is never dropped. Its descriptors and signal handlers are copies. The exit code is what `child`
/// returns.
pub(crate) fn spawn_borrowing<F: FnOnce() -> i32>(
    flags: i32,
    stack: &mut Stack,
    child: F,
) -> io::Result<(Pid, OwnedFd)> {
    extern "C" fn body<F: FnOnce() -> i32>(argument: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the argument is the address of the `Option<F>` below, which the parent does not touch before this
        // process has left its memory.
        let child = unsafe { &mut *argument.cast::<Option<F>>() };
        child.take().map_or(255, |child| child())
    }
    single_threaded()?;
    let mut child = Some(child);
    let mut descriptor: libc::c_int = -1;
    let all = flags | libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: the child runs on a stack of its own, whose highest address this is and which nobody else uses: `stack` is
    // borrowed exclusively, and with CLONE_VFORK the child has left this memory when clone returns. Until then no other
    // code runs in it, there being one thread, and so the child may do what this process may, but return from here.
    // `descriptor` is a valid place for the kernel to write to.
    let pid = check(libc::c_long::from(unsafe {
        let top = stack.lowest.byte_add(Stack::SIZE);
        libc::clone(body::<F>, top, all, ptr::from_mut(&mut child).cast(), ptr::from_mut(&mut descriptor))
    }))?;
    let pid =
        i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("clone returned no pid"))?;
    // SAFETY: clone succeeded with CLONE_PIDFD, so `descriptor` is an open descriptor that nobody else owns.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// Closes, in a child of [`spawn_borrowing`], its copy of a descriptor that the parent goes on using.
pub(crate) fn close_copy(descriptor: BorrowedFd<'_>) {
    // SAFETY: the caller is another process than the owner, with a table of descriptors of its own, in which nothing
    // else refers to this number.
    unsafe { libc::close(descriptor.as_raw_fd()) };
}

/// Moves the calling thread (and with `NEWUSER` the whole process, which must have one thread) into new namespaces.
pub(crate) fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    assert!(!flags.contains(UnshareFlags::FILES), "a thread with its own descriptors would break I/O safety");
    // SAFETY: the condition is that descriptors stay shared among threads, checked above.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Ends the process at once, running nothing: for children of `fork`, whose parent owns what would be run.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions and does not return.
    unsafe { libc::_exit(code) }
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// Waits for the end of a child, and tells what it and all that it waited for took: of that child only, unlike
/// `RUSAGE_CHILDREN`, since it is not the first one of this process.
pub(crate) fn reap(child: BorrowedFd<'_>) -> io::Result<(End, Resources)> {
    // SAFETY: both are plain integers and unions of them, of which all-zero bytes are a valid value.
    let (mut info, mut usage) = unsafe { std::mem::zeroed::<(libc::siginfo_t, libc::rusage)>() };
    loop {
        // SAFETY: both pointers are valid for writes of the structures that waitid fills. The system call takes the
        // fifth argument, which libc's function does not have.
        let waited = check(unsafe {
            libc::syscall(
                libc::SYS_waitid,
                libc::P_PIDFD,
                child.as_raw_fd(),
                ptr::from_mut(&mut info),
                libc::WEXITED,
                ptr::from_mut(&mut usage),
            )
        });
        match waited {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    // SAFETY: after waitid the structure describes a child that ended, which has a status.
    let status = unsafe { info.si_status() };
    let end = if info.si_code == libc::CLD_EXITED { End::Exited(status) } else { End::Killed(status) };
    Ok((end, resources(&usage)))
}

fn resources(usage: &libc::rusage) -> Resources {
    let time = |time: libc::timeval| {
        let (seconds, micros) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_usec));
        Duration::new(seconds.unwrap_or(0), micros.unwrap_or(0) * 1000)
    };
    let count = |number: libc::c_long, unit: u64| u64::try_from(number).unwrap_or(0).saturating_mul(unit);
    Resources {
        user: time(usage.ru_utime),
        system: time(usage.ru_stime),
        peak_memory: count(usage.ru_maxrss, 1024),
        // In blocks of 512 bytes, whatever the disk's are.
        read: count(usage.ru_inblock, 512),
        written: count(usage.ru_oublock, 512),
    }
}

/// Replaces the program. Returns only on error.
pub(crate) fn execve(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: `path` and all elements are NUL-terminated strings that outlive the call, and both arrays end in a null
    // pointer.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Gives every signal its default action and unblocks all of them, as a new program expects. Rust's start-up code
/// ignores `SIGPIPE`, and an ignored signal stays ignored across `execve`.
pub(crate) fn reset_signals() {
    // The kernel's `struct sigaction`: handler SIG_DFL, no flags, no restorer, empty mask. libc's own functions refuse
    // the two signals it keeps for itself, which a parent may have left ignored.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: no handler is installed, so nothing can run in a signal context; the structure is valid for reads,
        // the old action may be null. Signals that cannot be changed give an error, which is as good.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0usize, size_of::<u64>()) };
    }
    // SAFETY: an all-zero sigset_t is a valid value, initialised properly by sigemptyset; both pointers are valid for
    // the calls, the third may be null.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Makes a write beyond the limit of a file's size (`ulimit -f`) an error, `EFBIG`, as on a full disk. Otherwise it is a
/// signal that ends the process in the middle of what it does. Other programs that this one starts see nothing of it:
/// a handler, unlike an ignored signal, does not outlast `execve`.
pub fn let_large_writes_fail() {
    extern "C" fn nothing(_signal: libc::c_int) {}
    // SAFETY: the handler does nothing, so it may interrupt anything; the pointer is to a function of the type that
    // handlers have, which lives as long as the program.
    unsafe { libc::signal(libc::SIGXFSZ, nothing as *const () as libc::sighandler_t) };
}

/// Marks every descriptor from `first` on as closed by `execve`.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC nothing is closed now; descriptors only get a flag, so no owner is affected.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })?;
    Ok(())
}

/// Makes `source` also known as descriptor 0, 1 or 2, open across `execve`.
pub(crate) fn install_stdio(source: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    assert!((0..=2).contains(&number), "only standard descriptors have no owner");
    if source.as_raw_fd() == number {
        // SAFETY: F_SETFD changes a flag of an open descriptor.
        check(libc::c_long::from(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }))?;
    } else {
        // SAFETY: the target is a standard descriptor, which in `__init` no value owns; the source is borrowed.
        check(libc::c_long::from(unsafe { libc::dup2(source.as_raw_fd(), number) }))?;
    }
    Ok(())
}

/// Sets (and clears nothing of) the `MOUNT_ATTR_*` flags of a mount, with `recursive` also of those below it.
pub(crate) fn set_mount_attributes(mount: BorrowedFd<'_>, set: u64, recursive: bool) -> io::Result<()> {
    change_mount(mount, set, 0, recursive)
}

/// The same, and makes it a mount that shares events with none.
pub(crate) fn set_private_mount_attributes(mount: BorrowedFd<'_>, set: u64, recursive: bool) -> io::Result<()> {
    change_mount(mount, set, libc::MS_PRIVATE, recursive)
}

fn change_mount(mount: BorrowedFd<'_>, set: u64, propagation: u64, recursive: bool) -> io::Result<()> {
    /// `struct mount_attr` of `linux/mount.h`: set, clear, propagation, user namespace.
    #[repr(C)]
    struct Attributes([u64; 4]);
    let attributes = Attributes([set, 0, propagation, 0]);
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the descriptor is borrowed, the path is a NUL-terminated empty string, and the structure is valid for
    // reads of the size that is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            ptr::from_ref(&attributes),
            size_of::<Attributes>(),
        )
    })?;
    Ok(())
}

/// Installs a seccomp filter on the calling thread. Needs `CAP_SYS_ADMIN`, since `no_new_privs` is left alone.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: `program` describes as many valid instructions as it says, and the kernel only reads them.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, ptr::from_ref(&program)) })?;
    Ok(())
}

/// Has pieces of memory of at least so many bytes come from the kernel one by one, and go back as soon as they are free;
/// and what is free at the end of the others go back beyond so many bytes. Does nothing where the C library is another.
pub(crate) fn limit_free_memory(large: i32, left: i32) {
    #[cfg(target_env = "gnu")]
    // SAFETY: both only set a number that later allocations are decided by; what is allocated stays as it is.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, large);
        libc::mallopt(libc::M_TRIM_THRESHOLD, left);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = (large, left);
}
