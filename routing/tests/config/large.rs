//! 10,000 rules with 100,000 prefixes are a normal day.

use std::fmt::Write;
use std::time::{Duration, Instant};

use weir_routing::{Resolved, compile, parse};

use crate::{env, sources};

/// Far above what it takes even without optimisation on a slow machine, and far below what comparing each pair would.
const DEADLINE: Duration = Duration::from_secs(30);

/// Rules with ten prefixes each, and with `shared` in all of them.
fn rules(count: usize, shared: &str) -> String {
    let mut text =
        "[gateway.edge]\nlisten = [\"0.0.0.0:1\"]\n[service.db]\nendpoints = [\"10.0.0.1:1\"]\n".to_owned();
    for rule in 0..count {
        let prefixes: Vec<String> = (0..10)
            .map(|at| rule * 10 + at)
            .map(|net| format!("\"{}.{}.{}.0/24\"", 11 + net / 65_536, net / 256 % 256, net % 256))
            .collect();
        writeln!(
            text,
            "[[route]]\nmatch = [{{ {shared}source_subnets = [{}] }}]\nto = [{{ service = \"db\" }}]",
            prefixes.join(", ")
        )
        .expect("a string");
    }
    text
}

fn check(text: &str) {
    let texts = sources(&[text]);
    let start = Instant::now();
    let config = parse(&texts, &env).expect("its shape");
    let parsed = start.elapsed();
    let compiled = compile(&config, &Resolved::new()).expect("its meaning");
    let took = start.elapsed();
    println!("{} rules: read in {parsed:?}, all in {took:?}", compiled.table.parts().routes.len());
    assert_eq!(compiled.warnings, []);
    assert!(took < DEADLINE, "{took:?}");
}

#[test]
fn ten_thousand_rules_compile_in_time() {
    check(&rules(10_000, ""));
}

#[test]
fn a_condition_that_all_rules_share_does_not_make_every_pair_compared() {
    check(&rules(10_000, "ports = [1], destination_subnets = [\"10.0.0.0/8\"], "));
}
