//! Whatever is done to a file, reading it ends with a table or with problems at places inside the text, and never panics.

use proptest::prelude::*;
use weir_routing::{Severity, compile, parse};

use crate::{env, line, load, sources};

const GOOD: &str = include_str!("../fixtures/good.toml");
const EVERYTHING: &str = include_str!("../fixtures/everything.toml");

/// Pieces that change the meaning of a text.
const PIECES: [&str; 24] = [
    "[",
    "]",
    "[[",
    "{",
    "}",
    "\"",
    "=",
    ",",
    "\n",
    "#",
    "0",
    "-1",
    "70000",
    "true",
    "1.5",
    "[]",
    "{}",
    "\"\"",
    "/33",
    "${",
    "}",
    "ä",
    "99999999999999999999",
    ".x",
];

#[derive(Clone, Debug)]
enum Edit {
    Cut(usize, usize),
    Insert(usize, &'static str),
    Copy(usize, usize, usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = prop_oneof![
        (any::<usize>(), 1..40_usize).prop_map(|(at, length)| Edit::Cut(at, length)),
        (any::<usize>(), prop::sample::select(&PIECES[..])).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        (any::<usize>(), 1..200_usize, any::<usize>())
            .prop_map(|(from, length, to)| Edit::Copy(from, length, to)),
    ];
    prop::collection::vec(edit, 1..6)
}

fn apply(text: &str, edits: &[Edit]) -> String {
    let mut text = text.to_owned();
    for edit in edits {
        let at = |at: usize| text.floor_char_boundary(at % (text.len() + 1));
        match *edit {
            Edit::Cut(from, length) => {
                let from = at(from);
                let to = text.floor_char_boundary((from + length).min(text.len()));
                text.replace_range(from..to, "");
            }
            Edit::Insert(to, piece) => text.insert_str(at(to), piece),
            Edit::Copy(from, length, to) => {
                let (from, to) = (at(from), at(to));
                let end = text.floor_char_boundary((from + length).min(text.len()));
                let piece = text[from..end].to_owned();
                text.insert_str(to, &piece);
            }
        }
    }
    text
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let texts = sources(&[text]);
    let (problems, refused) = match load(&texts) {
        Ok(compiled) => (compiled.warnings, false),
        Err(problems) => (problems, true),
    };
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    prop_assert_eq!(errors > 0, refused);
    for problem in &problems {
        // A place that is not inside the text, or an empty message, would be our defect.
        prop_assert!(!problem.message.is_empty());
        prop_assert!(!line(&texts, problem).is_empty());
        for place in problem.place.iter().chain(problem.related.iter().map(|related| &related.place)) {
            prop_assert!(place.start <= place.end && place.end as usize <= text.len(), "{place:?}");
        }
    }
    let places: Vec<_> = problems.iter().map(|problem| problem.place).collect();
    prop_assert!(places.is_sorted());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_mutated_good_file_never_panics(edits in edits()) {
        check(&apply(GOOD, &edits))?;
    }

    #[test]
    fn a_mutated_file_with_every_key_never_panics(edits in edits()) {
        check(&apply(EVERYTHING, &edits))?;
    }
}

#[test]
fn the_good_file_is_good_and_its_tests_hold() {
    let texts = sources(&[GOOD]);
    let config = parse(&texts, &env).expect("its shape");
    let compiled = compile(&config, &Default::default()).expect("its meaning");
    let warnings: Vec<String> = compiled.warnings.iter().map(|problem| line(&texts, problem)).collect();
    assert_eq!(warnings, [] as [&str; 0]);
    assert_eq!(compiled.config_tests.len(), 6);
    for test in &compiled.config_tests {
        assert_eq!(test.check(&compiled.table), Ok(()), "{}", test.name);
    }
}
