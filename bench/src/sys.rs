//! The only room with unsafe code: clocks of other processes.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

/// CPU time of a process, user and system: of all its threads, those of the kernel that work for its rings, and those that have
/// ended. By the process's own clock, in nanoseconds, as in clock_getcpuclockid(3).
///
/// # Errors
///
/// When there is no such process.
pub fn process_cpu(pid: u32) -> io::Result<Duration> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut clock = MaybeUninit::uninit();
    // SAFETY: the pointer is valid for a write of a clock's id.
    let code = unsafe { libc::clock_getcpuclockid(pid, clock.as_mut_ptr()) };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code));
    }
    // SAFETY: the call returned 0, so it has written the id.
    let clock = unsafe { clock.assume_init() };
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is valid for a write of a timespec.
    if unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned 0, so it has written the time.
    let time = unsafe { time.assume_init() };
    Ok(Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32))
}
