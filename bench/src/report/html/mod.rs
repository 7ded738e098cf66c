//! One page that stands by itself: no scripts, nothing fetched, readable in light, in dark and on paper.
//!
//! A run's page is in `run`, a comparison's in `comparison`, their common parts in `page`.

mod comparison;
mod page;
mod run;

pub use comparison::comparison_page;
pub use run::run_page;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates;
    use crate::report::fixture;

    /// Elements that HTML lets stand open.
    const VOID: [&str; 2] = ["meta", "br"];

    /// Whether every element is closed where it must be, and every attribute quoted.
    #[track_caller]
    fn check_well_formed(name: &str, page: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("a page");
        while let Some((_, after)) = rest.split_once('<') {
            let (tag, after) = after.split_once('>').expect("a tag ends");
            rest = after;
            assert!(!tag.contains('<') && tag.matches('"').count() % 2 == 0, "{name}: <{tag}>");
            let element = tag.split_whitespace().next().unwrap_or_default();
            if let Some(closed) = element.strip_prefix('/') {
                assert_eq!(open.pop(), Some(closed), "{name}: </{closed}> after {open:?}");
            } else if !VOID.contains(&element) {
                open.push(element);
            }
        }
        assert!(open.is_empty(), "{name}: {open:?} stay open");
    }

    /// Every number of every drawing, and no word that a failed sum leaves.
    #[track_caller]
    fn check_numbers(name: &str, page: &str) {
        let mut numbers = 0;
        let attributes = ["x=", "y=", "x1=", "x2=", "y1=", "y2=", "cx=", "cy=", "width=", "height=", "d="];
        for attribute in attributes.map(|attribute| format!(" {attribute}\"")) {
            for (at, _) in page.match_indices(&attribute) {
                let value = page[at + attribute.len()..].split('"').next().expect("quoted");
                for number in value.split(['M', 'L', 'Z', ' ']).filter(|part| !part.is_empty()) {
                    let number: f64 = number.parse().unwrap_or_else(|_| panic!("{name}: {attribute}{value}"));
                    assert!(number.is_finite() && number.abs() < 1e5, "{name}: {attribute}{value}");
                    let is_length = attribute.contains("width") || attribute.contains("height");
                    assert!(!is_length || number >= 0.0, "{name}: {attribute}{value}");
                    numbers += 1;
                }
            }
        }
        let body = page.split_once("</style>").expect("a style").1;
        assert!(!body.contains("NaN") && !body.contains(">inf"), "{name} has a text that is no number");
        assert!(numbers > 0 || !body.contains("<svg"), "{name}: no numbers found");
    }

    #[track_caller]
    fn check(name: &str, page: &str) {
        check_well_formed(name, page);
        check_numbers(name, page);
        for foreign in ["<script", "http://", "https://", "url(", "@import"] {
            let stripped = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!stripped.contains(foreign), "{name} has {foreign}");
        }
    }

    #[test]
    fn pages_are_whole_and_their_numbers_finite() {
        let conditions = [("host".to_owned(), "two <cores> & \"more\"".to_owned())];
        for (name, outcome) in fixture::all() {
            check(name, &run_page(&outcome, &gates::judge(&outcome), &conditions));
        }
        for (name, comparison) in fixture::comparisons() {
            check(name, &comparison_page(&comparison));
        }
    }

    #[test]
    fn text_from_outside_is_escaped() {
        let conditions = [("<b>host".to_owned(), "a & b <script>".to_owned())];
        let outcome = fixture::mix();
        let page = run_page(&outcome, &gates::judge(&outcome), &conditions);
        for wanted in
            ["&lt;b&gt;host", "a &amp; b &lt;script&gt;", "crr, &lt;&quot;16 KiB&quot;&gt; &amp; more"]
        {
            assert!(page.contains(wanted), "no {wanted}");
        }
        let page = comparison_page(&fixture::hostile());
        assert!(page.contains("&lt;weir&gt;") && !page.contains("<weir>"));
    }

    #[test]
    fn failures_stand_at_the_top() {
        let outcome = fixture::overloaded();
        let page = run_page(&outcome, &gates::judge(&outcome), &[]);
        let banner = page.find("INVALID: achieved").expect("a verdict");
        assert!(banner < page.find("<svg").expect("charts"));
        assert!(page.contains("verdict bad"));
        let outcome = fixture::open();
        assert!(!run_page(&outcome, &gates::judge(&outcome), &[]).contains("INVALID"));
    }
}
