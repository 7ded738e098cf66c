//! Reload: every way a file changes, within 500 ms; established connections stay as they are, a broken file changes nothing.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use weir_tests::client::{ask, ask_once, connect, try_ask, try_connect};
use weir_tests::wait::ms;
use weir_tests::weir_process::{free_admin, with_admin};
use weir_tests::{Backend, Weir, busy, holds_for, quiet, wait_for};

use crate::support::{edge, edge_with};

/// From the last write until every shard follows the new table.
const IN_FORCE: Duration = Duration::from_millis(500);

/// How many connections must agree before a table counts as in force on every shard.
const AGREE: usize = 24;

/// Waits until new connections are answered by `name` on every shard; from then on all are. Returns how long it took.
fn follows(address: SocketAddr, name: &str) -> Duration {
    let start = Instant::now();
    let wanted = format!("{name} hello");
    let agree = || (0..AGREE).all(|_| ask_once(address, "hello").is_ok_and(|answer| answer == wanted));
    assert!(wait_for(Duration::from_secs(5), agree), "connections do not go to {name}");
    start.elapsed()
}

#[track_caller]
fn in_force(address: SocketAddr, name: &str, how: &str) {
    let took = follows(address, name);
    assert!(took <= IN_FORCE + ms(100), "{how}: {took:?}");
}

struct Two {
    one: Backend,
    two: Backend,
}

impl Two {
    fn new() -> Self {
        Self { one: Backend::lines("one"), two: Backend::lines("two") }
    }

    fn to_one(&self) -> String {
        edge(&[self.one.address], "")
    }

    fn to_two(&self) -> String {
        edge(&[self.two.address], "")
    }
}

#[test]
fn an_edit_in_place_and_a_rename_over_it_are_in_force_within_500_ms() {
    let _turn = quiet();
    let two = Two::new();
    let mut weir = Weir::start(&two.to_one());
    let address = weir.address("edge");
    let old = connect(address);
    assert_eq!(ask(&old, "hello"), "one hello");
    for round in 0..3 {
        weir.write(&two.to_two());
        in_force(address, "two", &format!("in place, round {round}"));
        weir.rename_over(&two.to_one());
        in_force(address, "one", &format!("by rename, round {round}"));
    }
    weir.write(&two.to_two());
    in_force(address, "two", "in place");
    assert_eq!(ask(&old, "still"), "one still", "an established connection stays where it is");
    drop(old);
    weir.clean();
}

/// A directory as Kubernetes mounts a ConfigMap: the file is a link into `..data`, which is a link to a dated directory.
fn publish(root: &Path, version: u32, toml: &str, admin: SocketAddr) {
    let dated = format!("..2026_{version}");
    std::fs::create_dir(root.join(&dated)).unwrap();
    std::fs::write(root.join(&dated).join("weir.toml"), with_admin(toml, admin)).unwrap();
    symlink(&dated, root.join("..data_tmp")).unwrap();
    std::fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    if !root.join("weir.toml").exists() {
        symlink("..data/weir.toml", root.join("weir.toml")).unwrap();
    }
    if version > 1 {
        std::fs::remove_dir_all(root.join(format!("..2026_{}", version - 1))).unwrap();
    }
}

#[test]
fn a_symlink_swap_as_kubernetes_does_it_is_in_force_within_500_ms() {
    let _turn = quiet();
    let two = Two::new();
    for whole_directory in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_path_buf();
        let admin = free_admin();
        publish(&root, 1, &two.to_one(), admin);
        let config = if whole_directory { root.clone() } else { root.join("weir.toml") };
        let mut weir = Weir::start_in(directory, &config, admin);
        let address = weir.address("edge");
        follows(address, "one");
        publish(&root, 2, &two.to_two(), admin);
        in_force(address, "two", &format!("whole directory: {whole_directory}"));
        publish(&root, 3, &two.to_one(), admin);
        in_force(address, "one", &format!("again, whole directory: {whole_directory}"));
    }
}

#[test]
fn a_file_that_joins_or_leaves_the_directory_is_a_change() {
    let _turn = quiet();
    let two = Two::new();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_path_buf();
    let admin = free_admin();
    std::fs::write(root.join("a.toml"), with_admin(&two.to_one(), admin)).unwrap();
    std::fs::write(root.join(".b.toml"), "not = even [ TOML").unwrap();
    let mut weir = Weir::start_in(directory, &root, admin);
    let address = weir.address("edge");
    follows(address, "one");
    let route = format!(
        "[[route]]\nto = [{{ service = \"other\" }}]\n[service.other]\nendpoints = [\"{}\"]\n",
        two.two.address
    );
    std::fs::write(root.join("b.toml"), route).unwrap();
    in_force(address, "two", "a file more");
    std::fs::remove_file(root.join("b.toml")).unwrap();
    in_force(address, "one", "a file less");
}

#[test]
fn without_watch_only_a_hangup_reloads() {
    let _turn = quiet();
    let two = Two::new();
    let off = |backend: &Backend| edge_with("watch = false", &[backend.address], "");
    let mut weir = Weir::start(&off(&two.one));
    let address = weir.address("edge");
    follows(address, "one");
    weir.write(&off(&two.two));
    assert!(holds_for(ms(700), || ask_once(address, "hello").is_ok_and(|answer| answer == "one hello")));
    weir.signal(Signal::HUP);
    in_force(address, "two", "HUP");
}

#[test]
fn a_broken_file_changes_nothing_and_is_reported() {
    let _turn = quiet();
    let two = Two::new();
    let mut weir = Weir::start(&two.to_one());
    let address = weir.address("edge");
    let generation = weir.generation();
    let failures = || weir.metric("weir_config_reload_failures_total", &[]);
    for (at, (how, broken)) in [
        ("not TOML", "[gateway.edge\n".to_owned()),
        ("an unknown key", two.to_two().replace("endpoints", "endpoinst")),
        ("a bad address", two.to_two().replace("127.0.0.1:0", "127.0.0.256:0")),
        ("an empty file", String::new()),
        ("a failing test", format!("{}\n[[test]]\nname = \"claim\"\nsource = \"10.0.0.1\"\ndestination = \"10.0.0.2:1\"\ngateway = \"edge\"\nexpect = {{ reject = true }}\n", two.to_two())),
    ]
    .into_iter()
    .enumerate()
    {
        std::fs::write(weir.config(), broken).unwrap();
        assert!(wait_for(ms(2000), || failures() > at as f64), "{how} is not counted");
        assert_eq!(weir.metric("weir_config_last_reload_successful", &[]), 0.0, "{how}");
        assert_eq!(weir.generation(), generation, "{how}");
        assert_eq!(ask_once(address, "hello").expect("the old table serves"), "one hello", "{how}");
    }
    weir.line(&["endpoinst"]);
    weir.write(&two.to_two());
    in_force(address, "two", "after the broken ones");
    assert_eq!(weir.metric("weir_config_last_reload_successful", &[]), 1.0);
}

#[test]
fn a_file_that_goes_away_changes_nothing() {
    let _turn = quiet();
    let two = Two::new();
    let mut weir = Weir::start(&two.to_one());
    let address = weir.address("edge");
    std::fs::remove_file(weir.config()).unwrap();
    assert!(holds_for(ms(700), || ask_once(address, "hello").is_ok_and(|answer| answer == "one hello")));
    weir.write(&two.to_two());
    in_force(address, "two", "back again");
}

#[test]
fn listeners_come_and_go_and_those_that_stay_are_not_touched() {
    let _turn = busy();
    let two = Two::new();
    let with = |extra: &str| {
        format!(
            "{}\n[gateway.fixed]\nlisten = [\"127.0.0.1:32601\"]\nto = [{{ service = \"db\" }}]\n{extra}",
            two.to_one()
        )
    };
    let more = "[gateway.more]\nlisten = [\"127.0.0.1:32602\"]\nto = [{ service = \"db\" }]\n";
    let mut weir = Weir::start(&with(""));
    let (fixed, added): (SocketAddr, SocketAddr) =
        ("127.0.0.1:32601".parse().unwrap(), "127.0.0.1:32602".parse().unwrap());
    let edge = weir.address("edge");
    assert!(try_connect(added).is_err());

    weir.reload(&with(more));
    let through_added = connect(added);
    assert_eq!(ask(&through_added, "hello"), "one hello");
    for address in [edge, fixed] {
        assert_eq!(ask_once(address, "hello").expect("untouched"), "one hello");
    }

    weir.reload(&with(""));
    assert!(
        wait_for(ms(1000), || try_connect(added).is_err()),
        "a listener that left the file still accepts"
    );
    assert_eq!(ask(&through_added, "still"), "one still", "its sessions live on");
    drop(through_added);
    weir.clean();
}

#[test]
fn a_listener_that_leaves_serves_what_waits_in_its_queue() {
    let _turn = quiet();
    let two = Two::new();
    let with = |listen: &str| two.to_one().replace("127.0.0.1:0", listen);
    let mut weir = Weir::start(&with("127.0.0.1:32611"));
    let address = weir.address("edge");
    follows(address, "one");
    for round in 0..5 {
        let (old, new) = if round % 2 == 0 { (32611, 32612) } else { (32612, 32611) };
        let old = SocketAddr::from(([127, 0, 0, 1], old));
        weir.pause();
        let queued: Vec<TcpStream> = (0..50).map(|_| connect(old)).collect();
        weir.rename_over(&with(&format!("127.0.0.1:{new}")));
        weir.resume();
        for stream in &queued {
            assert_eq!(try_ask(stream, "hello").expect("no reset"), "one hello", "round {round}");
        }
        assert!(wait_for(ms(2000), || try_connect(old).is_err()), "round {round}: still accepting");
    }
}

#[test]
fn an_address_that_cannot_be_bound_refuses_the_reload() {
    let _turn = busy();
    let two = Two::new();
    let taken = Backend::lines("taken");
    let mut weir = Weir::start(&two.to_one());
    let address = weir.address("edge");
    let extra = format!(
        "{}\n[gateway.a]\nlisten = [\"127.0.0.1:32621\"]\nto = [{{ service = \"db\" }}]\n\
         [gateway.b]\nlisten = [\"{}\"]\nto = [{{ service = \"db\" }}]\n",
        two.to_two(),
        taken.address
    );
    weir.write(&extra);
    weir.line(&[&taken.address.to_string()]);
    assert!(wait_for(ms(2000), || weir.metric("weir_config_last_reload_successful", &[]) == 0.0));
    assert_eq!(ask_once(address, "hello").expect("the old table serves"), "one hello");
    assert!(try_connect("127.0.0.1:32621".parse().unwrap()).is_err(), "what was bound is undone");
}

#[test]
fn changes_that_need_a_restart_are_reported() {
    let _turn = busy();
    let two = Two::new();
    let mut weir = Weir::start(&edge_with("shards = 1", &[two.one.address], ""));
    let address = weir.address("edge");
    weir.reload(&edge_with("shards = 2", &[two.two.address], ""));
    assert_eq!(weir.metric("weir_config_restart_needed", &[]), 1.0);
    weir.line(&["shards", "restart"]);
    follows(address, "two");
}

/// Ends the other threads of a scope also when the claim fails: else it would wait for them for ever.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reloads again and again under short connections and long lines, and no client notices.
fn under_load(reloads: u32, every: Duration) {
    let _turn = quiet();
    let two = Two::new();
    let mut weir = Weir::start(&two.to_one());
    let address = weir.address("edge");
    let long: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();
    let (stop, served) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let answer = ask_once(address, "hello").expect("no connection fails");
                    assert!(answer == "one hello" || answer == "two hello", "{answer}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _stop = Stop(&stop);
        for round in 0..reloads {
            weir.rename_over(&if round % 2 == 0 { two.to_two() } else { two.to_one() });
            let asked = &long[round as usize % long.len()];
            assert!(holds_for(every, || ask(asked, "still") == "one still"));
        }
    });
    assert!(served.load(Ordering::Relaxed) > u64::from(reloads), "too few connections to show anything");
    for stream in &long {
        assert_eq!(ask(stream, "end"), "one end");
    }
    drop(long);
    weir.clean();
}

#[test]
fn reloads_under_load_cost_no_connection() {
    under_load(30, ms(150));
}

#[test]
#[ignore = "long: run by CI"]
fn long_reloads_under_load() {
    under_load(400, ms(150));
}

#[test]
fn the_last_of_many_writes_wins() {
    let _turn = quiet();
    let two = Two::new();
    let mut weir = Weir::start(&two.to_one());
    let address = weir.address("edge");
    for round in 0..60 {
        weir.write(&if round % 2 == 0 { two.to_one() } else { two.to_two() });
    }
    in_force(address, "two", "the last write");
    assert!(holds_for(ms(300), || ask_once(address, "hello").is_ok_and(|answer| answer == "two hello")));
}
