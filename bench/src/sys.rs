//! The only room with unsafe code: socket options that no crate has, clocks of other processes.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Lets a bound source address take its port only when the connection is made, so that a port can serve several destinations.
pub fn bind_address_no_port(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open while it is borrowed, and the kernel reads one int from a live one.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// CPU time of a process, user and system: of all its threads, those of the kernel that work for its rings, and those that have
/// ended. By the process's own clock, in nanoseconds, as in clock_getcpuclockid(3).
///
/// # Errors
///
/// When there is no such process.
pub fn process_cpu(pid: u32) -> io::Result<Duration> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut clock: libc::clockid_t = 0;
    // SAFETY: the pointer is to a clock's id that is ours, for the length of the call.
    let code = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that is ours, for the length of the call.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processes_that_are_there_have_a_clock() {
        fn check(pid: u32, expected: bool) {
            assert_eq!(process_cpu(pid).is_ok(), expected, "process {pid}");
        }
        check(std::process::id(), true);
        // Above the highest that the kernel gives out (PID_MAX_LIMIT), and above the highest of a pid_t.
        check(1 << 23, false);
        check(u32::MAX, false);
    }
}
