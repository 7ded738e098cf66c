//! The probe: what this kernel's io_uring can do, found by doing it. Versions lie: distributions port features back, and
//! containers forbid them.
#![allow(unsafe_code)]

use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

/// How long a probed operation may take. All of them complete at once.
const PROBE_DEADLINE: types::Timespec = types::Timespec::new().sec(1);

/// Names of the probed operations: the accept is still armed when the poll is tried.
const ACCEPT: u64 = 1;
const POLL: u64 = 2;

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
    let address = SocketAddr::from_abstract_name(format!("weir-probe-{}", std::process::id()))?;
    let listener = UnixListener::bind_addr(&address)?;
    let _client = UnixStream::connect_addr(&address)?;
    let completion = first_completion(
        ring,
        &opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).build().user_data(ACCEPT),
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
    let poll = opcode::PollAdd::new(types::Fd(far.as_raw_fd()), libc::POLLIN as u32).multi(true);
    let completion = first_completion(ring, &poll.build().user_data(POLL))?;
    Ok(completion.result() > 0 && cqueue::more(completion.flags()))
}

/// Submits one operation and waits for its first completion.
fn first_completion(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<cqueue::Entry> {
    // SAFETY: accept without an address and poll point to no memory of ours; the descriptor is open until the completion is
    // here, and a multishot operation that lives on keeps the file, not our memory.
    unsafe { ring.submission().push(entry) }.map_err(io::Error::other)?;
    let arguments = types::SubmitArgs::new().timespec(&PROBE_DEADLINE);
    ring.submitter().submit_with_args(1, &arguments)?;
    let name = entry.get_user_data();
    ring.completion()
        .find(|completion| completion.user_data() == name)
        .ok_or_else(|| io::ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_what_a_shard_needs() {
        let all = Features { defer_taskrun: true, multishot_accept: true, multishot_poll: true };
        assert_eq!(probe().unwrap(), all);
    }
}
