//! A child's CPU time is known by its own clock: threads that have ended count too.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use weir_bench::compare::account::Family;

/// Burns the given CPU time by its own clock, in a thread that ends or in the first, prints how much it has used, and stays.
const BURNER: &str = "
import sys, threading, time
def burn():
    end = time.process_time() + float(sys.argv[1])
    while time.process_time() < end: pass
if sys.argv[2] == 'thread':
    thread = threading.Thread(target=burn)
    thread.start()
    thread.join()
else:
    burn()
print(time.process_time(), flush=True)
sys.stdin.read()
";

#[test]
fn a_child_is_charged_with_the_time_it_burned() {
    fn check(seconds: &str, place: &str) {
        let mut child = Command::new("python3")
            .args(["-c", BURNER, seconds, place])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("its own reading");
        let own: f64 = line.trim().parse().expect("seconds");
        let found = Family::of(child.id()).read().expect("it still runs").cpu.as_secs_f64();
        child.stdin.take().expect("piped").flush().expect("an open pipe");
        child.wait().expect("it ends with its input");
        let wanted: f64 = seconds.parse().expect("seconds");
        assert!(
            found >= wanted && (found / own - 1.0).abs() < 0.03,
            "{place}: {found} s, by its own clock {own} s"
        );
    }
    if Command::new("python3").arg("--version").output().is_err() && std::env::var_os("CI").is_none() {
        eprintln!("skipped: no python3");
        return;
    }
    check("0.5", "here");
    check("0.5", "thread");
}
