//! The shard's io_uring: accept, connect, readiness, cancel, and the one place where a shard sleeps. And the probe: what this
//! kernel's io_uring can do, found by doing it; versions lie, for distributions port features back and containers forbid them.
//!
//! A room for unsafe with a small door: what is pushed refers to descriptors (the kernel takes its own reference when it reads
//! the entry, at the latest in the next [`Ring::turn`]) and to addresses that this file keeps until then. What completions
//! mean is left to `shard.rs`.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use socket2::SockAddr;

/// Entries that can wait for the next turn; a full queue is submitted early.
const SUBMISSIONS: u32 = 1024;
/// Completions the kernel can post in one turn before it has to keep some aside (and ends multishot polls, which are then
/// armed again).
const COMPLETIONS: u32 = 8192;

/// Flags of io_uring_enter(2).
const GETEVENTS: u32 = 1;
const EXT_ARG: u32 = 8;

/// The bit of a tag that says "accept" and is this file's own.
const ACCEPT: u64 = 1 << 7;

/// Short of memory the kernel takes no request; it is asked again after this long.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// Completions that end a wait that gathers.
const GATHERED: u32 = 64;

/// Sleeping is bounded, so that a doorbell that was lost by a defect would cost a delay and not a stall. One time-out request
/// does it for all sleeps: a time-out of each sleep's own is a kernel timer to start and to cancel with every request served.
static HEARTBEAT: Timespec = Timespec::new().sec(1);
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The heartbeat's name. Tags end in a small kind, so none is like it.
const BEAT: u64 = u64::MAX;

const _: () = assert!(COMPLETIONS >= 2 * SUBMISSIONS);

/// One completion.
#[derive(Debug)]
pub struct Completion {
    /// What was given at submission.
    pub tag: u64,
    /// Whether a multishot request goes on.
    pub more: bool,
    /// What came of it.
    pub result: io::Result<Value>,
}

/// What a request that went well gave.
#[derive(Debug)]
pub enum Value {
    /// An accept: the socket.
    Socket(OwnedFd),
    /// Anything else: the call's result; of a poll the mask of the wake-up.
    Number(u32),
}

impl Completion {
    /// Whether a poll's mask carries POLLERR.
    pub fn has_error(&self) -> bool {
        self.has(libc::POLLERR)
    }

    /// Whether a poll's mask carries a sign of the peer's FIN.
    pub fn has_hang_up(&self) -> bool {
        self.has(libc::POLLRDHUP | libc::POLLHUP)
    }

    fn has(&self, any: libc::c_short) -> bool {
        matches!(self.result, Ok(Value::Number(mask)) if mask & any as u32 != 0)
    }
}

/// What can be asked of the ring.
enum Request {
    /// One that points to no memory of ours.
    Plain(squeue::Entry),
    /// A connect, whose address has to stay where it is until it has been submitted.
    Connect { socket: Fd, address: SockAddr, tag: u64 },
}

/// The ring. Made and used by one thread (SINGLE_ISSUER).
pub struct Ring {
    uring: IoUring,
    can_gather: bool,
    /// Addresses of connects that the kernel may not have read yet; never grown beyond its first capacity, so they do not move.
    addresses: Vec<SockAddr>,
    /// Requests that the submission queue had no room for, in order. Whoever made them waits for their completions as for others'.
    waiting: VecDeque<Request>,
    /// The kernel has refused requests, and has taken none since.
    is_refused: bool,
    /// Completions that were collected to make room for submissions.
    early: Vec<Completion>,
    /// The heartbeat has to be asked for.
    is_beat_due: bool,
    /// The kernel takes no request.
    #[cfg(test)]
    refuses: bool,
}

impl Ring {
    /// Sets up a ring for the calling thread.
    ///
    /// Errors: those of io_uring_setup(2); `preflight` explains them.
    pub fn new() -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            // One entry that cannot be taken does not hold up those behind it.
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        let can_gather = uring.params().is_feature_min_timeout();
        Ok(Self {
            uring,
            can_gather,
            addresses: Vec::with_capacity(SUBMISSIONS as usize),
            waiting: VecDeque::new(),
            is_refused: false,
            early: Vec::new(),
            is_beat_due: true,
            #[cfg(test)]
            refuses: false,
        })
    }

    /// Accepts until cancelled; each completion is a non-blocking, close-on-exec socket.
    pub fn accept(&mut self, listener: BorrowedFd<'_>, tag: u64) {
        let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd()))
            .flags(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)
            .build();
        debug_assert_eq!(tag & ACCEPT, 0, "that bit is ours");
        self.push(Request::Plain(entry.user_data(tag | ACCEPT)));
    }

    /// Tells readiness until cancelled, edge-triggered; arming reports the present state.
    pub fn poll(&mut self, socket: BorrowedFd<'_>, tag: u64) {
        let mask = libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP;
        let entry = opcode::PollAdd::new(Fd(socket.as_raw_fd()), mask as u32).multi(true).build();
        self.push(Request::Plain(entry.user_data(tag)));
    }

    /// Connects. The socket is a blocking one: with O_NONBLOCK the ring gives up at EINPROGRESS.
    pub fn connect(&mut self, socket: BorrowedFd<'_>, address: SockAddr, tag: u64) {
        self.push(Request::Connect { socket: Fd(socket.as_raw_fd()), address, tag });
    }

    /// Ends the request with this tag: its own last completion follows. Silent when it does; when there was none to end,
    /// `tag` completes with an error.
    pub fn cancel(&mut self, target: u64, tag: u64) {
        self.cancel_request(target, tag);
    }

    /// Ends a multishot accept, as [`Self::cancel`] does.
    pub fn cancel_accept(&mut self, target: u64, tag: u64) {
        self.cancel_request(target | ACCEPT, tag);
    }

    /// Whether the kernel refuses requests, for want of memory: what was asked for happens later.
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }

    fn cancel_request(&mut self, target: u64, tag: u64) {
        let entry = opcode::AsyncCancel::new(target).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(Request::Plain(entry.user_data(tag)));
    }

    /// Submits what waits, sleeps until a completion or for at most `sleep` (zero: not at all), and collects completions.
    ///
    /// `gather`: at least this long unless many completions come, where the kernel can do that (Linux 6.12). Whatever comes
    /// waits so long, an accept or a doorbell as well.
    pub fn turn(
        &mut self,
        sleep: Duration,
        gather: Duration,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        if std::mem::take(&mut self.is_beat_due) {
            let beat = opcode::Timeout::new(&raw const HEARTBEAT).build();
            self.push(Request::Plain(beat.user_data(BEAT)));
        }
        self.refill();
        // There were more than fit: the next ones must not wait for a completion.
        let sleep = if self.waiting.is_empty() { sleep } else { sleep.min(ASK_AGAIN) };
        let gather = if self.can_gather { gather.min(sleep) } else { Duration::ZERO };
        let is_idle = self.early.is_empty() && self.uring.completion().is_empty();
        let want = match is_idle && !sleep.is_zero() {
            false => 0,
            true if gather.is_zero() => 1,
            true => GATHERED,
        };
        match self.enter(want, sleep, gather) {
            Ok(()) => {}
            // ETIME: slept long enough. EINTR: a signal. EBUSY: completions overflowed and want to be collected first.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => {}
            // Completions go on, and some free memory. Without a pause a shard would spin.
            Err(error) if is_short(&error) && want == 0 => {}
            Err(error) if is_short(&error) => self.rest(sleep.min(ASK_AGAIN))?,
            Err(error) => return Err(error),
        }
        self.collect();
        completions.append(&mut self.early);
        Ok(())
    }

    fn collect(&mut self) {
        let is_beat_due = &mut self.is_beat_due;
        self.early.extend(self.uring.completion().filter_map(|entry| {
            if entry.user_data() == BEAT {
                *is_beat_due = true;
                return None;
            }
            let result = match entry.result() {
                // SAFETY: the bit is set on accepts alone, and each completion of one carries a descriptor that the kernel
                // installed for it and nobody else owns.
                socket @ 0.. if entry.user_data() & ACCEPT != 0 => {
                    Ok(Value::Socket(unsafe { OwnedFd::from_raw_fd(socket) }))
                }
                number @ 0.. => Ok(Value::Number(number as u32)),
                errno => Err(io::Error::from_raw_os_error(-errno)),
            };
            Some(Completion { tag: entry.user_data() & !ACCEPT, more: cqueue::more(entry.flags()), result })
        }));
    }

    /// Queues a request. It never fails: what the kernel does not take yet waits, in order.
    fn push(&mut self, request: Request) {
        if self.waiting.is_empty() && self.is_full() {
            // Whatever the error is, the next turn meets it again.
            let _ = self.enter(0, Duration::ZERO, Duration::ZERO);
            self.collect();
        }
        if self.waiting.is_empty() && !self.is_full() {
            self.submit(request);
        } else {
            self.waiting.push_back(request);
        }
    }

    /// Moves what waits into the submission queue, as far as it has room.
    fn refill(&mut self) {
        while !self.waiting.is_empty() && !self.is_full() {
            if let Some(request) = self.waiting.pop_front() {
                self.submit(request);
            }
        }
    }

    fn is_full(&mut self) -> bool {
        self.uring.submission().is_full() || self.addresses.len() == self.addresses.capacity()
    }

    /// Puts a request into the submission queue, which has room.
    fn submit(&mut self, request: Request) {
        let entry = match request {
            Request::Plain(entry) => entry,
            Request::Connect { socket, address, tag } => {
                self.addresses.push(address);
                let address = self.addresses.last().expect("just pushed");
                opcode::Connect::new(socket, address.as_ptr().cast(), address.len()).build().user_data(tag)
            }
        };
        // SAFETY: descriptors are borrowed from their owners, which close them only after the last completion of what they
        // were given to (see `shard.rs`); a connect's address stays in `self.addresses` until it has been submitted.
        unsafe { self.uring.submission().push(&entry) }.expect("the caller made sure of the room");
    }

    /// Waits for completions without offering requests.
    fn rest(&mut self, sleep: Duration) -> io::Result<()> {
        let timespec = Timespec::new().nsec(sleep.subsec_nanos());
        let arguments = SubmitArgs::new().timespec(&timespec);
        // SAFETY: `arguments` and what it points to outlive the call.
        match unsafe { self.uring.submitter().enter(0, 1, GETEVENTS | EXT_ARG, Some(&arguments)) } {
            Err(error)
                if !is_short(&error)
                    && !matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY)) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// The one system call. With DEFER_TASKRUN nothing reaches the completion queue before an enter asks for it
    /// (GETEVENTS), even if it waits for nothing.
    fn enter(&mut self, want: u32, sleep: Duration, gather: Duration) -> io::Result<()> {
        let submissions = self.uring.submission().len() as u32;
        #[cfg(test)]
        if self.refuses && submissions > 0 {
            self.is_refused = true;
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        let submitter = self.uring.submitter();
        let bounded = sleep.min(LONGEST_SLEEP);
        let timespec = Timespec::new().sec(bounded.as_secs()).nsec(bounded.subsec_nanos());
        let arguments = SubmitArgs::new().timespec(&timespec).min_wait_usec(gather.as_micros() as u32);
        let is_untimed = want == 0 || gather.is_zero() && sleep >= LONGEST_SLEEP;
        // SAFETY: `arguments` and what it points to outlive the call.
        let entered = if is_untimed {
            unsafe { submitter.enter::<libc::sigset_t>(submissions, want, GETEVENTS, None) }
        } else {
            unsafe { submitter.enter(submissions, want, GETEVENTS | EXT_ARG, Some(&arguments)) }
        };
        let left = self.uring.submission().len() as u32;
        if left == 0 {
            self.addresses.clear();
        }
        self.is_refused = match &entered {
            Err(error) if is_short(error) => true,
            _ => self.is_refused && left > 0 && left == submissions,
        };
        entered.map(drop)
    }
}

/// The kernel is short of memory for requests.
fn is_short(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM))
}

/// How long a probed operation may take. All of them complete at once.
const PROBE_DEADLINE: Timespec = Timespec::new().sec(1);

/// Names of the probed operations: the accept is still armed when the poll is tried.
const PROBED_ACCEPT: u64 = 1;
const PROBED_POLL: u64 = 2;

/// What a shard needs of io_uring, and whether this kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Completions are run by the one thread that asks for them (IORING_SETUP_SINGLE_ISSUER and DEFER_TASKRUN).
    pub defer_taskrun: bool,
    /// One accept for all connections of a listener.
    pub multishot_accept: bool,
    /// One poll for all wake-ups of a socket.
    pub multishot_poll: bool,
}

/// Tries what a shard needs.
/// Errors: no ring at all could be made (ENOSYS: none in this kernel; EPERM: forbidden; ENOMEM: locked memory).
pub fn probe() -> io::Result<Features> {
    let mut builder = IoUring::builder();
    let deferred = builder.setup_single_issuer().setup_defer_taskrun().build(8);
    let defer_taskrun = deferred.is_ok();
    let mut ring: IoUring = match deferred {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::new(8)?,
        other => other?,
    };
    Ok(Features {
        defer_taskrun,
        multishot_accept: multishot_accept(&mut ring)?,
        multishot_poll: multishot_poll(&mut ring)?,
    })
}

/// On a Unix socket, which needs no network to be up; the operation is the same.
fn multishot_accept(ring: &mut IoUring) -> io::Result<bool> {
    // The kernel chooses the name: one of ours could still be held by a probe before.
    let listener = UnixListener::bind_addr(&SocketAddr::from_pathname("")?)?;
    let _client = UnixStream::connect_addr(&listener.local_addr()?)?;
    let completion = first_completion(
        ring,
        &opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).build().user_data(PROBED_ACCEPT),
    )?;
    if completion.result() < 0 {
        return Ok(false);
    }
    // SAFETY: the completion of an accept hands over a new descriptor, which nothing else owns.
    drop(unsafe { OwnedFd::from_raw_fd(completion.result()) });
    Ok(cqueue::more(completion.flags()))
}

fn multishot_poll(ring: &mut IoUring) -> io::Result<bool> {
    let (mut near, far) = UnixStream::pair()?;
    near.write_all(b"!")?;
    let poll = opcode::PollAdd::new(Fd(far.as_raw_fd()), libc::POLLIN as u32).multi(true);
    let completion = first_completion(ring, &poll.build().user_data(PROBED_POLL))?;
    Ok(completion.result() > 0 && cqueue::more(completion.flags()))
}

/// Submits one operation and waits for its first completion.
fn first_completion(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<cqueue::Entry> {
    // SAFETY: accept without an address and poll point to no memory of ours; the descriptor is open until the completion is
    // here, and a multishot operation that lives on keeps the file, not our memory.
    unsafe { ring.submission().push(entry) }.map_err(io::Error::other)?;
    let arguments = SubmitArgs::new().timespec(&PROBE_DEADLINE);
    ring.submitter().submit_with_args(1, &arguments)?;
    let name = entry.get_user_data();
    ring.completion()
        .find(|completion| completion.user_data() == name)
        .ok_or_else(|| io::ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::Instant;

    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn this_kernel_has_what_a_shard_needs() {
        let all = Features { defer_taskrun: true, multishot_accept: true, multishot_poll: true };
        assert_eq!(probe().unwrap(), all);
    }

    /// A connect that finds the submission queue full must not lose its address to those that follow.
    #[test]
    fn each_connect_keeps_its_address_when_the_queue_was_full() {
        let listeners = [0; 4].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let sockets = [0; 4].map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
        let mut ring = Ring::new().unwrap();
        for _ in 1..SUBMISSIONS {
            ring.cancel(!ACCEPT, 0);
        }
        for (tag, (listener, socket)) in listeners.iter().zip(&sockets).enumerate() {
            let address = listener.local_addr().unwrap().into();
            ring.connect(socket.as_fd(), address, 1 + tag as u64);
        }
        check_connects(&mut ring, &listeners, &sockets);
    }

    /// A kernel without memory for requests: they wait in order, the ring says so, and nothing is lost.
    #[test]
    fn what_the_kernel_refuses_waits_and_happens_later() {
        let listeners = [0; 4].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let sockets = [0; 4].map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
        let mut ring = Ring::new().unwrap();
        ring.refuses = true;
        for _ in 0..2 * SUBMISSIONS {
            ring.cancel(!ACCEPT, 0);
        }
        for (tag, (listener, socket)) in listeners.iter().zip(&sockets).enumerate() {
            ring.connect(socket.as_fd(), listener.local_addr().unwrap().into(), 1 + tag as u64);
        }
        let mut completions = Vec::new();
        let began = Instant::now();
        ring.turn(Duration::from_secs(1), Duration::ZERO, &mut completions).unwrap();
        assert!(began.elapsed() >= ASK_AGAIN, "a refused ring spins");
        assert!(ring.is_refused() && completions.is_empty());
        ring.refuses = false;
        check_connects(&mut ring, &listeners, &sockets);
        assert!(!ring.is_refused());
    }

    /// Waits for connects of the tags from 1, and checks where each has gone.
    fn check_connects(ring: &mut Ring, listeners: &[std::net::TcpListener], sockets: &[Socket]) {
        let mut completions = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(10);
        while completions.iter().filter(|completion: &&Completion| completion.tag != 0).count()
            < sockets.len()
        {
            assert!(Instant::now() < deadline, "a connect did not complete");
            ring.turn(Duration::from_millis(100), Duration::ZERO, &mut completions).unwrap();
        }
        for (listener, socket) in listeners.iter().zip(sockets) {
            let reached = socket.peer_addr().unwrap().as_socket().unwrap();
            assert_eq!(reached, listener.local_addr().unwrap());
        }
    }
}
