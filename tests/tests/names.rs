//! Host names: answers of name servers are followed, silence changes nothing, and one silent server delays no other.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use weir_tests::client::{ask_once, try_ask, try_connect};
use weir_tests::dns::{Asked, NameServer, Reply};
use weir_tests::wait::ms;
use weir_tests::{Backend, Launch, Weir, holds_for, quiet, wait_for};

use crate::support::edge_with;

/// Gateway `edge` to endpoints by name, all at the port of this address.
fn by_name(names: &[&str], at: SocketAddr, proxy: &str) -> String {
    let endpoints: Vec<String> = names.iter().map(|name| format!("\"{name}:{}\"", at.port())).collect();
    let none = edge_with(proxy, &[], "balance = \"round_robin\"\nconnect_timeout = \"200ms\"");
    none.replace("endpoints = []", &format!("endpoints = [{}]", endpoints.join(", ")))
}

fn start(names: &NameServer, toml: &str) -> Weir {
    let under = names.under();
    Launch::new(toml).under(&under.iter().map(String::as_str).collect::<Vec<_>>()).start()
}

fn addresses(all: &[IpAddr], ttl: u32) -> Reply {
    Reply::Addresses(all.to_vec(), ttl)
}

fn serves(address: SocketAddr) -> bool {
    try_connect(address).is_ok_and(|stream| {
        stream.set_read_timeout(Some(ms(1000))).is_ok() && try_ask(&stream, "hello").is_ok()
    })
}

#[test]
fn a_question_for_aaaa_that_is_dropped_delays_nothing() {
    let Some(names) = NameServer::start() else { return };
    let _turn = quiet();
    let one = Backend::lines("one");
    names.reply("db.test", Asked::A, addresses(&[one.address.ip()], 60));
    names.reply("db.test", Asked::Aaaa, Reply::Silence);
    let begun = Instant::now();
    let mut weir = start(&names, &by_name(&["db.test"], one.address, ""));
    let listening = weir.address("edge");
    assert!(
        ask_once(listening, "hello").is_ok_and(|answer| answer == "one hello"),
        "it has its address at once"
    );
    assert!(begun.elapsed() < ms(900), "{:?}", begun.elapsed());
    assert!(!names.asked("db.test", Asked::Aaaa).is_empty());
}

#[test]
fn only_an_answer_without_an_address_ages_it() {
    let Some(names) = NameServer::start() else { return };
    let _turn = quiet();
    let one = Backend::lines("one");
    let there = || addresses(&[one.address.ip()], 1);
    names.reply("db.test", Asked::A, there());
    names.reply("db.test", Asked::Aaaa, Reply::NoAddress);
    let mut weir = start(&names, &by_name(&["db.test"], one.address, "resolve_interval = \"1s\""));
    let listening = weir.address("edge");
    let asked = || names.asked("db.test", Asked::A).len();
    for (how, reply, stays) in [
        ("SERVFAIL", Reply::Failure, true),
        ("NXDOMAIN", Reply::NoName, false),
        ("an empty answer", Reply::NoAddress, false),
    ] {
        names.reply("db.test", Asked::A, there());
        assert!(wait_for(ms(5000), || serves(listening)), "before {how}");
        let before = asked();
        names.reply("db.test", Asked::A, reply);
        if stays {
            assert!(wait_for(ms(9000), || asked() >= before + 5), "{how}: it is not asked again");
            assert!(serves(listening), "{how} took the address away");
        } else {
            assert!(wait_for(ms(9000), || !serves(listening)), "{how} keeps the address");
            assert!(asked() >= before + 3, "{how}: gone after {} answers", asked() - before);
        }
    }
    assert!(weir.metric("weir_resolve_failures_total", &[("host", "db.test")]) >= 5.0);
}

#[test]
fn a_name_is_one_host_and_the_search_list_adds_no_other_hosts_addresses() {
    let Some(names) = NameServer::start() else { return };
    let _turn = quiet();
    let one = Backend::lines("one");
    let six = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], one.address.port()));
    let _elsewhere = Backend::lines_at(six, "elsewhere");
    let mut resolv_conf = std::fs::read_to_string(names.resolv_conf()).expect("its own file");
    resolv_conf += "search elsewhere.test here.test\n";
    std::fs::write(names.resolv_conf(), resolv_conf).expect("its own file");
    // As it is: one family. Under the search list another host has the other.
    names.reply("db.test", Asked::A, addresses(&[one.address.ip()], 1));
    names.reply("db.test", Asked::Aaaa, Reply::NoAddress);
    names.reply("db.test.elsewhere.test", Asked::A, Reply::NoName);
    names.reply("db.test.elsewhere.test", Asked::Aaaa, addresses(&[six.ip()], 1));
    // Without a dot the search list comes first; its first zone fails, and the next one has the host.
    names.reply("short.elsewhere.test", Asked::A, Reply::Failure);
    names.reply("short.elsewhere.test", Asked::Aaaa, Reply::Failure);
    names.reply("short.here.test", Asked::A, addresses(&[one.address.ip()], 1));
    names.reply("short.here.test", Asked::Aaaa, Reply::NoAddress);
    for name in ["db.test", "short"] {
        let mut weir = start(&names, &by_name(&[name], one.address, "resolve_interval = \"1s\""));
        let listening = weir.address("edge");
        let asked = if name == "short" { "short.here.test" } else { name };
        let thrice = || names.asked(asked, Asked::A).len() >= 3 && names.asked(asked, Asked::Aaaa).len() >= 3;
        assert!(wait_for(ms(10_000), thrice), "{name}: {:?}", names.asked(asked, Asked::Aaaa));
        for _ in 0..8 {
            assert_eq!(ask_once(listening, "hello").ok().as_deref(), Some("one hello"), "{name}");
        }
    }
    assert!(names.asked("db.test.elsewhere.test", Asked::Aaaa).is_empty(), "db.test is a host already");
}

#[test]
fn silence_for_one_family_is_no_answer_of_the_other() {
    let Some(names) = NameServer::start() else { return };
    let _turn = quiet();
    let v4 = Backend::lines("four");
    let six = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], v4.address.port()));
    let _v6 = Backend::lines_at(six, "six");
    names.reply("db.test", Asked::A, addresses(&[v4.address.ip()], 1));
    names.reply("db.test", Asked::Aaaa, addresses(&[six.ip()], 1));
    let mut weir = start(&names, &by_name(&["db.test"], six, "resolve_interval = \"1s\""));
    let listening = weir.address("edge");
    let both = || {
        let answers: Vec<_> = (0..8).filter_map(|_| ask_once(listening, "hello").ok()).collect();
        ["four hello", "six hello"].iter().all(|wanted| answers.iter().any(|answer| answer == wanted))
    };
    assert!(wait_for(ms(3000), both), "both families are used");
    names.reply("db.test", Asked::Aaaa, Reply::Silence);
    let before = names.asked("db.test", Asked::A).len();
    assert!(wait_for(ms(9000), || names.asked("db.test", Asked::A).len() >= before + 5), "A is asked on");
    assert!(both(), "the addresses of the family that is silent stay");
}

#[test]
fn a_ttl_is_heard_between_a_second_and_the_interval() {
    let Some(names) = NameServer::start() else { return };
    let _turn = quiet();
    let one = Backend::lines("one");
    let cases = [("none.test", 0, 1), ("short.test", 2, 2), ("long.test", 600, 3)];
    for (name, ttl, _) in cases {
        names.reply(name, Asked::A, addresses(&[one.address.ip()], ttl));
        names.reply(name, Asked::Aaaa, Reply::NoAddress);
    }
    let all = cases.map(|(name, ..)| name);
    let _weir = start(&names, &by_name(&all, one.address, "resolve_interval = \"3s\""));
    for (name, _, seconds) in cases {
        let thrice = || names.asked(name, Asked::A).len() >= 3;
        assert!(wait_for(ms(10_000), thrice), "{name}: {:?}", names.asked(name, Asked::A));
        let times = names.asked(name, Asked::A);
        for pair in times.windows(2) {
            let apart = pair[1] - pair[0];
            let wanted = Duration::from_secs(seconds);
            assert!(apart >= wanted - ms(5) && apart <= wanted + ms(500), "{name}: {apart:?}");
        }
    }
}

#[test]
fn hosts_and_resolv_conf_are_read_again_when_they_change() {
    let (Some(first), Some(second)) = (NameServer::start(), NameServer::start()) else { return };
    let _turn = quiet();
    let one = Backend::lines("one");
    let toml = by_name(&["db.test"], one.address, "resolve_interval = \"1s\"");
    first.reply("db.test", Asked::A, Reply::NoAddress);
    second.reply("db.test", Asked::A, addresses(&[one.address.ip()], 1));
    let mut weir = start(&first, &toml);
    let listening = weir.address("edge");
    assert!(!serves(listening), "it has no address yet");
    std::fs::copy(second.resolv_conf(), first.resolv_conf()).unwrap();
    assert!(wait_for(ms(4000), || serves(listening)), "another name server is not asked");
    second.reply("db.test", Asked::A, Reply::NoName);
    assert!(wait_for(ms(9000), || !serves(listening)), "the name server answers that there is no such name");
    std::fs::write(first.hosts(), format!("127.0.0.1 localhost\n{} db.test\n", one.address.ip())).unwrap();
    assert!(wait_for(ms(4000), || serves(listening)), "the hosts file is not read");
}

#[test]
fn names_of_a_refused_configuration_are_not_asked() {
    let Some(names) = NameServer::start() else { return };
    let _turn = quiet();
    let one = Backend::lines("one");
    names.reply("db.test", Asked::A, addresses(&[one.address.ip()], 1));
    let proxy = "resolve_interval = \"1s\"";
    let weir = start(&names, &by_name(&["db.test"], one.address, proxy));
    let refused = format!(
        "{}\n[[test]]\nname = \"claim\"\nsource = \"10.0.0.1\"\ndestination = \"10.0.0.2:1\"\ngateway = \"edge\"\n\
         expect = {{ reject = true }}\n",
        by_name(&["refused.test"], one.address, proxy)
    );
    weir.write(&refused);
    let failures = || weir.metric("weir_config_reload_failures_total", &[]);
    assert!(wait_for(ms(5000), || failures() > 0.0), "it is taken");
    let asked = || names.asked("refused.test", Asked::A).len();
    let before = asked();
    let others = names.asked("db.test", Asked::A).len();
    assert!(holds_for(ms(2500), || asked() == before), "asked again: {} times", asked());
    assert!(names.asked("db.test", Asked::A).len() > others, "those in force are");
}

#[test]
fn a_zone_that_is_dead_delays_no_other() {
    let Some(names) = NameServer::start() else { return };
    let _turn = quiet();
    let one = Backend::lines("one");
    let dead: Vec<String> = (0..300).map(|number| format!("n{number}.dead")).collect();
    for name in &dead {
        names.reply(name, Asked::A, Reply::Silence);
        names.reply(name, Asked::Aaaa, Reply::Silence);
    }
    names.reply("z.test", Asked::A, addresses(&[one.address.ip()], 1));
    names.reply("z.test", Asked::Aaaa, Reply::NoAddress);
    let mut all: Vec<&str> = dead.iter().map(String::as_str).collect();
    all.push("z.test");
    let mut weir = start(&names, &by_name(&all, one.address, "resolve_interval = \"1s\""));
    let listening = weir.address("edge");
    assert!(wait_for(ms(5000), || serves(listening)), "it waits for the dead ones");
    let asked = || names.asked("z.test", Asked::A).len();
    let before = asked();
    let begun = Instant::now();
    assert!(wait_for(ms(20_000), || asked() >= before + 8), "asked {} times more", asked() - before);
    assert!(begun.elapsed() < ms(12_000), "8 questions, one a second, took {:?}", begun.elapsed());
}
