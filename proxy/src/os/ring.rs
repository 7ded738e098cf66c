//! The shard's io_uring: accept, connect, readiness, cancel, and the one place where a shard sleeps. And the probe of
//! this kernel's io_uring, which tries each feature: versions do not show them, for distributions port features back and containers
//! forbid them.
//!
//! One of the two files with unsafe code. Requests refer to descriptors (the kernel takes its own reference when it reads the entry,
//! at the latest in the next [`Ring::turn`]) and to addresses that this file keeps until then. Each request has a typed name, so
//! that only the completion of an accept can become a socket. The meaning of completions is left to the shard.

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

/// Short of memory the kernel takes no request; it is asked again after this long.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// Completions that end a wait that gathers.
const GATHERED: u32 = 64;

/// Sleeping is bounded, so that a doorbell that was lost by a defect would cost a delay and not a stall. One time-out request
/// does it for all sleeps: a time-out of each sleep's own is a kernel timer to start and to cancel with every request served.
static HEARTBEAT: Timespec = Timespec::new().sec(1);
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

const _: () = assert!(COMPLETIONS >= 2 * SUBMISSIONS);

/// Generations wrap here: a completion would have to be late by 16 million sessions of one shard to be taken for a later one's.
pub(crate) const GENERATIONS: u32 = 1 << GENERATION_BITS;
const GENERATION_BITS: u32 = 24;
const KIND_BITS: u32 = 8;

/// A session's slot, and which of its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotId {
    /// The slot.
    pub slot: u32,
    /// Below [`GENERATIONS`].
    pub generation: u32,
}

/// A descriptor whose readiness is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// The client's socket of a session.
    Client(SlotId),
    /// The upstream's socket of a session.
    Upstream(SlotId),
    /// The doorbell of the mailbox.
    Doorbell,
}

/// A request to the ring, by which it is cancelled and its completions are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// The multishot accept of the listener with this number.
    Accept(u32),
    /// A multishot poll.
    Poll(Watched),
    /// A session's connect.
    Connect(SlotId),
}

/// The number of a request in the ring: kind (8 bits), generation (24 bits), slot (32 bits). Made here alone, because the kind decides
/// whether a completion's result is a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag(u64);

/// Kinds of tags.
const ACCEPT: u64 = 1;
const CLIENT: u64 = 2;
const UPSTREAM: u64 = 3;
const DOORBELL: u64 = 4;
const CONNECT: u64 = 5;
const CANCEL: u64 = 6;
const BEAT: u64 = 7;

impl Tag {
    /// A cancel that found nothing to cancel.
    const CANCEL: Self = Self(CANCEL);
    /// The heartbeat.
    const BEAT: Self = Self(BEAT);

    const fn new(kind: u64, id: SlotId) -> Self {
        Self((id.slot as u64) << (KIND_BITS + GENERATION_BITS) | (id.generation as u64) << KIND_BITS | kind)
    }

    fn of(request: Request) -> Self {
        let plain = |slot| SlotId { slot, generation: 0 };
        match request {
            Request::Accept(listener) => Self::new(ACCEPT, plain(listener)),
            Request::Poll(Watched::Client(id)) => Self::new(CLIENT, id),
            Request::Poll(Watched::Upstream(id)) => Self::new(UPSTREAM, id),
            Request::Poll(Watched::Doorbell) => Self::new(DOORBELL, plain(0)),
            Request::Connect(id) => Self::new(CONNECT, id),
        }
    }

    fn kind(self) -> u64 {
        self.0 & ((1 << KIND_BITS) - 1)
    }

    /// The request; none of the ring's own.
    fn request(self) -> Option<Request> {
        let slot = (self.0 >> (KIND_BITS + GENERATION_BITS)) as u32;
        let id = SlotId { slot, generation: (self.0 >> KIND_BITS) as u32 & (GENERATIONS - 1) };
        Some(match self.kind() {
            ACCEPT => Request::Accept(slot),
            CLIENT => Request::Poll(Watched::Client(id)),
            UPSTREAM => Request::Poll(Watched::Upstream(id)),
            DOORBELL => Request::Poll(Watched::Doorbell),
            CONNECT => Request::Connect(id),
            _ => return None,
        })
    }
}

/// One completion.
#[derive(Debug)]
pub(crate) enum Completion {
    /// Of a listener's accept.
    Accepted {
        /// The listener's number.
        listener: u32,
        /// The socket.
        result: io::Result<OwnedFd>,
        /// Whether the accept goes on.
        more: bool,
    },
    /// Of a poll.
    Polled {
        /// Whose it is.
        watched: Watched,
        /// Its report; empty where the poll has failed or was cancelled.
        readiness: Readiness,
        /// Whether the poll goes on.
        more: bool,
    },
    /// Of a connect.
    Connected {
        /// The session.
        id: SlotId,
        /// Whether the endpoint has answered.
        result: io::Result<()>,
    },
}

/// The report of a poll's mask beside the wake-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// POLLERR: the connection is dead.
    pub error: bool,
    /// POLLRDHUP or POLLHUP: its peer sends no more.
    pub hang_up: bool,
}

impl Readiness {
    fn of(mask: i32) -> Self {
        let has = |any: libc::c_short| mask & i32::from(any) != 0;
        Self { error: has(libc::POLLERR), hang_up: has(libc::POLLRDHUP | libc::POLLHUP) }
    }
}

/// A request that has yet to be put into the submission queue.
enum Submission {
    /// One that points to no memory of ours.
    Plain(squeue::Entry),
    /// A connect, whose address has to stay where it is until it has been submitted.
    Connect { socket: Fd, address: SockAddr, tag: Tag },
}

/// The ring. Made and used by one thread (SINGLE_ISSUER).
pub(crate) struct Ring {
    uring: IoUring,
    can_gather: bool,
    /// Addresses of connects that the kernel may not have read yet; never grown beyond its first capacity, so they do not move.
    addresses: Vec<SockAddr>,
    /// Requests that the submission queue had no room for, in order. Their completions come later.
    waiting: VecDeque<Submission>,
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
    pub(crate) fn new() -> io::Result<Self> {
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
    pub(crate) fn accept(&mut self, listener: BorrowedFd<'_>, number: u32) {
        let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd()))
            .flags(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)
            .build();
        self.push_plain(entry, Tag::of(Request::Accept(number)));
    }

    /// Reports readiness until cancelled, edge-triggered; arming reports the present state.
    pub(crate) fn poll(&mut self, socket: BorrowedFd<'_>, watched: Watched) {
        let mask = libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP;
        let entry = opcode::PollAdd::new(Fd(socket.as_raw_fd()), mask as u32).multi(true).build();
        self.push_plain(entry, Tag::of(Request::Poll(watched)));
    }

    /// Connects. The socket is a blocking one: with O_NONBLOCK the ring gives up at EINPROGRESS.
    pub(crate) fn connect(&mut self, socket: BorrowedFd<'_>, address: SockAddr, id: SlotId) {
        let tag = Tag::of(Request::Connect(id));
        self.push(Submission::Connect { socket: Fd(socket.as_raw_fd()), address, tag });
    }

    /// Ends a request: its own last completion follows. Of a request that is over already nothing comes.
    pub(crate) fn cancel(&mut self, request: Request) {
        let entry = opcode::AsyncCancel::new(Tag::of(request).0).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push_plain(entry, Tag::CANCEL);
    }

    /// Whether the kernel refuses requests, for want of memory: they happen later.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused
    }

    fn push_plain(&mut self, entry: squeue::Entry, tag: Tag) {
        self.push(Submission::Plain(entry.user_data(tag.0)));
    }

    /// Submits what waits, sleeps until a completion or for at most `sleep` (zero: not at all), and collects completions.
    ///
    /// `gather`: at least this long unless many completions come, where the kernel can do that (Linux 6.12). Whatever comes
    /// waits so long, an accept or a doorbell as well.
    pub(crate) fn turn(
        &mut self,
        sleep: Duration,
        gather: Duration,
        completions: &mut Vec<Completion>,
    ) -> io::Result<()> {
        if std::mem::take(&mut self.is_beat_due) {
            let beat = opcode::Timeout::new(&raw const HEARTBEAT).build();
            self.push_plain(beat, Tag::BEAT);
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
            let tag = Tag(entry.user_data());
            *is_beat_due |= tag == Tag::BEAT;
            let more = cqueue::more(entry.flags());
            let result = match entry.result() {
                number @ 0.. => Ok(number),
                errno => Err(io::Error::from_raw_os_error(-errno)),
            };
            Some(match tag.request()? {
                Request::Accept(listener) => Completion::Accepted {
                    listener,
                    // SAFETY: tags of this kind are given to accepts alone, and each completion of one carries a descriptor that
                    // the kernel installed for it and that has no other owner.
                    result: result.map(|socket| unsafe { OwnedFd::from_raw_fd(socket) }),
                    more,
                },
                Request::Poll(watched) => Completion::Polled {
                    watched,
                    readiness: result.map_or_else(|_| Readiness::default(), Readiness::of),
                    more,
                },
                Request::Connect(id) => Completion::Connected { id, result: result.map(drop) },
            })
        }));
    }

    /// Queues a request. It never fails: what the kernel does not take yet waits, in order.
    fn push(&mut self, request: Submission) {
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
    fn submit(&mut self, request: Submission) {
        let entry = match request {
            Submission::Plain(entry) => entry,
            Submission::Connect { socket, address, tag } => {
                self.addresses.push(address);
                let address = self.addresses.last().expect("just pushed");
                opcode::Connect::new(socket, address.as_ptr().cast(), address.len()).build().user_data(tag.0)
            }
        };
        // SAFETY: descriptors are borrowed from their owners, which close them only after the last completion of what they
        // were given to (see `shard/core.rs`); a connect's address stays in `self.addresses` until it has been submitted.
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

/// The features of io_uring that a shard needs, and whether this kernel has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    /// Completions are run by the one thread that asks for them (IORING_SETUP_SINGLE_ISSUER and DEFER_TASKRUN).
    pub defer_taskrun: bool,
    /// One accept for all connections of a listener.
    pub multishot_accept: bool,
    /// One poll for all wake-ups of a socket.
    pub multishot_poll: bool,
}

/// Tries the features that a shard needs.
///
/// Errors: no ring at all could be made (ENOSYS: none in this kernel; EPERM: forbidden; ENOMEM: locked memory).
pub(crate) fn probe() -> io::Result<Features> {
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

    /// A request that was never made.
    const NOTHING: Request = Request::Connect(SlotId { slot: u32::MAX, generation: 7 });

    #[test]
    fn a_tag_keeps_its_request() {
        let ids = [(0, 0), (1, GENERATIONS - 1), (u32::MAX, 1), (u32::MAX, GENERATIONS - 1)];
        for (slot, generation) in ids {
            let id = SlotId { slot, generation };
            for request in [
                Request::Accept(slot),
                Request::Poll(Watched::Client(id)),
                Request::Poll(Watched::Upstream(id)),
                Request::Poll(Watched::Doorbell),
                Request::Connect(id),
            ] {
                assert_eq!(Tag::of(request).request(), Some(request));
            }
        }
        assert_eq!([Tag::CANCEL, Tag::BEAT].map(Tag::request), [None, None]);
    }

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
            ring.cancel(NOTHING);
        }
        for (slot, (listener, socket)) in (0..).zip(listeners.iter().zip(&sockets)) {
            let address = listener.local_addr().unwrap().into();
            ring.connect(socket.as_fd(), address, SlotId { slot, generation: 0 });
        }
        check_connects(&mut ring, &listeners, &sockets);
    }

    /// A kernel without memory for requests: they wait in order, the ring reports it, and no request is lost.
    #[test]
    fn requests_that_the_kernel_refuses_wait_and_happen_later() {
        let listeners = [0; 4].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let sockets = [0; 4].map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
        let mut ring = Ring::new().unwrap();
        ring.refuses = true;
        for _ in 0..2 * SUBMISSIONS {
            ring.cancel(NOTHING);
        }
        for (slot, (listener, socket)) in (0..).zip(listeners.iter().zip(&sockets)) {
            let id = SlotId { slot, generation: 0 };
            ring.connect(socket.as_fd(), listener.local_addr().unwrap().into(), id);
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

    /// Waits for the connects, and checks where each has gone.
    fn check_connects(ring: &mut Ring, listeners: &[std::net::TcpListener], sockets: &[Socket]) {
        let mut completions = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(10);
        while completions.len() < sockets.len() {
            assert!(Instant::now() < deadline, "a connect did not complete");
            ring.turn(Duration::from_millis(100), Duration::ZERO, &mut completions).unwrap();
        }
        for (listener, socket) in listeners.iter().zip(sockets) {
            let reached = socket.peer_addr().unwrap().as_socket().unwrap();
            assert_eq!(reached, listener.local_addr().unwrap());
        }
    }
}
