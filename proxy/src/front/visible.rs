//! Text of users as it may be printed: characters that a terminal would act on or not show at all (control characters,
//! right-to-left marks, zero-width spaces) are written as escapes.

use std::borrow::Cow;
use std::ops::Range;

/// Whether a character is not seen as itself: control and format characters, blanks other than a space, and what no script
/// has. Rust's own escaping knows them; the letter before keeps it from escaping an accent of that letter.
fn is_hidden(letter: char) -> bool {
    let plain = letter == ' ' || letter.is_ascii_graphic();
    !plain && ['a', letter].iter().collect::<String>().escape_debug().count() > 2
}

fn escape(letter: char) -> String {
    letter.escape_unicode().to_string()
}

/// A text of one line.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    replaced(text, is_hidden, escape)
}

/// A text of several lines, with tabs.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    replaced(text, |letter| is_hidden(letter) && letter != '\n' && letter != '\t', escape)
}

/// JSON whose strings may hold such characters: they are written as JSON escapes.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    let hidden = |letter: char| !letter.is_ascii() && is_hidden(letter);
    let escape =
        |letter: char| letter.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect();
    replaced(text, hidden, escape)
}

/// A value found in a file: quoted and escaped if it is empty or does not show as it is.
pub(crate) fn found(text: &str) -> Cow<'_, str> {
    if text.is_empty() || text.contains(is_hidden) { format!("{text:?}").into() } else { text.into() }
}

/// Lines of a file, and places in them, moved with what is written longer.
pub(crate) fn source<'t>(text: &'t str, places: &mut [Range<usize>]) -> Cow<'t, str> {
    let hidden = |(at, letter): &(usize, char)| {
        let end_of_line = *letter == '\r' && matches!(text[at + 1..].chars().next(), None | Some('\n'));
        is_hidden(*letter) && !matches!(letter, '\n' | '\t') && !end_of_line
    };
    let found: Vec<(usize, char)> = text.char_indices().filter(hidden).collect();
    if found.is_empty() {
        return text.into();
    }
    let moved = |place: usize| {
        let before = found.iter().take_while(|(at, _)| *at < place);
        place + before.map(|(_, letter)| escape(*letter).len() - letter.len_utf8()).sum::<usize>()
    };
    places.iter_mut().for_each(|place| *place = moved(place.start)..moved(place.end));
    let mut written = String::new();
    let mut rest = 0;
    for (at, letter) in &found {
        written.push_str(&text[rest..*at]);
        written.push_str(&escape(*letter));
        rest = at + letter.len_utf8();
    }
    written.push_str(&text[rest..]);
    written.into()
}

fn replaced(text: &str, hidden: impl Fn(char) -> bool, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return text.into();
    }
    let write = |mut written: String, letter: char| {
        if hidden(letter) {
            written.push_str(&escape(letter))
        } else {
            written.push(letter)
        };
        written
    };
    text.chars().fold(String::new(), write).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_does_not_show_as_itself_is_escaped() {
        // Of each range of the category Cf one, control characters, and blanks that look like a space.
        let hidden = "\0\t\n\r\u{1b}\u{7f}\u{85}\u{a0}\u{ad}\u{600}\u{61c}\u{6dd}\u{70f}\u{8e2}\u{180e}\u{200b}\u{200e}\u{2028}\u{202a}\u{202e}\u{2060}\u{2066}\u{206f}\u{3000}\u{feff}\u{fff9}\u{110bd}\u{13430}\u{1bca0}\u{1d173}\u{e0001}\u{e0020}";
        for letter in hidden.chars() {
            assert!(is_hidden(letter), "{letter:?}");
            let text = format!("a{letter}b");
            assert_eq!(line(&text), format!("a\\u{{{:x}}}b", u32::from(letter)));
            assert!(!json(&format!("{letter}")).contains(|letter: char| !letter.is_ascii()), "{letter:?}");
        }
        for text in ["plain", "\"'\\", "ü", "e\u{301}", "名前", "🦀", ""] {
            assert_eq!(line(text), text);
            assert_eq!(lines(text), text);
            assert_eq!(json(text), text);
        }
        assert_eq!(lines("a\n\tb\u{202e}"), "a\n\tb\\u{202e}");
        assert_eq!(json("\u{e0001}"), "\\udb40\\udc01");
    }

    #[test]
    fn places_move_with_the_text_before_them() {
        let text = "a\u{202e}b\r\nc\u{200b}\td";
        let mut places = [0..1, 1..4, 4..5, 7..8, text.len() - 1..text.len()];
        let written = source(text, &mut places);
        assert_eq!(written, "a\\u{202e}b\r\nc\\u{200b}\td");
        let shown: Vec<&str> = places.iter().map(|place| &written[place.clone()]).collect();
        assert_eq!(shown, ["a", "\\u{202e}", "b", "c", "d"]);
    }
}
