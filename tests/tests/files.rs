//! Configuration files of every kind and every way of being written: what is no file is refused by name, what is written through
//! another name of the file is taken, a pipe is read once, and a file system that does not answer holds up nothing else.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use weir_tests::client::ask_once;
use weir_tests::process::Process;
use weir_tests::wait::ms;
use weir_tests::weir_process::{free_admin, with_admin};
use weir_tests::{Backend, Launch, Weir, busy, host, program, quiet, wait_for};

use crate::support::edge;

#[track_caller]
fn answers_within(deadline: Duration, address: SocketAddr, name: &str) {
    let wanted = format!("{name} hello");
    let answered = wait_for(deadline, || ask_once(address, "hello").is_ok_and(|answer| answer == wanted));
    assert!(answered, "connections do not go to {name} after {deadline:?}");
}

/// Puts something that is no file at this path.
type Put = fn(&Path);

#[test]
fn a_thing_that_is_no_file_is_refused_by_name_within_a_second_and_the_next_good_content_is_taken() {
    let _turn = quiet();
    let (one, two) = (Backend::lines("one"), Backend::lines("two"));
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_path_buf();
    let admin = free_admin();
    let good = |backend: &Backend| {
        std::fs::write(root.join("a.toml"), with_admin(&edge(&[backend.address], ""), admin)).unwrap();
    };
    good(&one);
    let mut weir = Weir::start_in(directory, &root, admin);
    let address = weir.address("edge");
    let fifo: Put = |path| {
        rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap();
    };
    let kinds: [(&str, Put); 4] = [
        ("fifo", fifo),
        ("device", |path| symlink("/dev/zero", path).unwrap()),
        ("socket", |path| drop(UnixListener::bind(path).unwrap())),
        ("dangling", |path| symlink("nowhere", path).unwrap()),
    ];
    for (round, (kind, put)) in kinds.into_iter().enumerate() {
        let path = root.join(format!("{kind}.toml"));
        put(&path);
        let put_at = Instant::now();
        weir.line(&["error", &format!("{kind}.toml")]);
        assert!(put_at.elapsed() <= ms(1000), "{kind}: reported after {:?}", put_at.elapsed());
        let output = program::run("weir", &["check", "-c", root.to_str().unwrap()]);
        assert_eq!(output.code, 1, "{kind}: {}", output.stderr);
        assert!(output.stderr.contains(&format!("{kind}.toml")), "{}", output.stderr);
        let [before, after] =
            if round % 2 == 0 { [("one", &one), ("two", &two)] } else { [("two", &two), ("one", &one)] };
        answers_within(ms(100), address, before.0);
        std::fs::remove_file(&path).unwrap();
        good(after.1);
        answers_within(ms(1000), address, after.0);
    }
}

#[test]
fn a_write_through_another_name_of_the_file_is_taken() {
    let _turn = quiet();
    let (one, two) = (Backend::lines("one"), Backend::lines("two"));
    let check = |how: &str, launch: Launch, other: &Path| {
        let mut weir = launch.start();
        let address = weir.address("edge");
        if how == "hard link" {
            std::fs::hard_link(weir.config(), other).unwrap();
        }
        answers_within(ms(1000), address, "one");
        let admin = weir.admin();
        std::fs::write(other, with_admin(&edge(&[two.address], ""), admin)).unwrap();
        answers_within(ms(600), address, "two");
    };
    let elsewhere = tempfile::tempdir().unwrap();
    check("hard link", Launch::new(&edge(&[one.address], "")), &elsewhere.path().join("hard.toml"));
    if host::has(&["unshare", "mount", "sh"]) && host::is_root() {
        let other = elsewhere.path().join("bound.toml");
        let launch = Launch::new(&edge(&[one.address], ""));
        std::fs::write(&other, launch.text()).unwrap();
        // The arguments end with `weir run -c FILE`.
        let mount = format!("mount --bind {} \"$4\" && exec \"$@\"", other.display());
        check("bind mount", launch.under(&["unshare", "-m", "sh", "-c", &mount, "sh"]), &other);
    }
}

#[test]
fn a_table_that_was_refused_for_a_taken_port_is_tried_again_when_the_same_text_is_saved() {
    let _turn = busy();
    let (one, two) = (Backend::lines("one"), Backend::lines("two"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    let mut weir = Weir::start(&edge(&[one.address], ""));
    let address = weir.address("edge");
    let wanted = format!(
        "{}\n[gateway.more]\nlisten = [\"{port}\"]\nto = [{{ service = \"db\" }}]\n",
        edge(&[two.address], "")
    );
    weir.write(&wanted);
    weir.line(&["refused", &port.to_string()]);
    drop(taken);
    weir.write(&wanted);
    answers_within(ms(1000), address, "two");
    answers_within(ms(1000), port, "two");
}

#[test]
fn a_pipe_is_read_once_and_said_not_to_be_watched() {
    if !host::has(&["bash"]) {
        return;
    }
    let _turn = busy();
    let one = Backend::lines("one");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weir.toml");
    for how in ["-c <(cat FILE)", "-c /dev/stdin < <(cat FILE)"] {
        std::fs::write(&file, with_admin(&edge(&[one.address], ""), free_admin())).unwrap();
        let how = how.replace("FILE", file.to_str().unwrap());
        let line = format!("exec {} run {how}", program::path("weir").display());
        let mut weir = Process::spawn(Command::new("bash").args(["-c", &line]));
        let listening = weir.line(&["listening", "gateway=edge"]);
        weir.line(&["read once"]);
        let address = listening.rsplit('=').next().and_then(|word| word.trim().parse().ok()).unwrap();
        answers_within(ms(1000), address, "one");
        // The table that was read stays in force.
        weir.signal(Signal::HUP);
        weir.line(&["generation=2", "in force"]);
        answers_within(ms(1000), address, "one");
        weir.signal(Signal::TERM);
        assert_eq!(weir.exit(ms(5000)).code(), Some(0), "{how}");
    }
}

#[test]
fn a_reading_that_does_not_come_back_is_said_and_holds_up_nothing_else() {
    // Opening a file blocks while another process holds a write lease on it, as a file system does that does not answer.
    const HOLD: &str = "import fcntl, os, signal, sys\n\
        signal.signal(signal.SIGIO, signal.SIG_IGN)\n\
        file = os.open(sys.argv[1], os.O_RDWR)\n\
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
        text = open(sys.argv[2], 'rb').read()\n\
        os.pwrite(file, text, 0)\n\
        os.ftruncate(file, len(text))\n\
        print('held', flush=True)\n\
        signal.alarm(60)\n\
        signal.pause()\n";
    if !host::has(&["python3"]) {
        return;
    }
    let _turn = quiet();
    let (one, two) = (Backend::lines("one"), Backend::lines("two"));
    let mut weir = Weir::start(&edge(&[one.address], ""));
    let address = weir.address("edge");
    let elsewhere = tempfile::tempdir().unwrap();
    let next = elsewhere.path().join("next.toml");
    std::fs::write(&next, with_admin(&edge(&[two.address], ""), weir.admin())).unwrap();
    let mut holder = Process::spawn(Command::new("python3").args(["-c", HOLD]).arg(weir.config()).arg(&next));
    holder.line(&["held"]);
    let held = Instant::now();
    let config = weir.config();
    weir.line(&["reading", config.to_str().unwrap(), "more than 5 s"]);
    assert!(held.elapsed() >= ms(5000) && held.elapsed() <= ms(7000), "{:?}", held.elapsed());
    assert_eq!(weir.get("/live").status, 200);
    assert_eq!(weir.metric("weir_config_last_reload_successful", &[]), 0.0);
    answers_within(ms(1000), address, "one");
    drop(holder);
    answers_within(ms(2000), address, "two");
}
