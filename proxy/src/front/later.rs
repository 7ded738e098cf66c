//! Commands and options of later versions: refused by name, with the way to do the same now, and never taken for misspelt ones. They are
//! looked for before the arguments are read, since these would first miss arguments that such a command does not need.

use std::ffi::{OsStr, OsString};

/// Commands and options that one program does not have yet. Each entry ends with what to do instead.
pub struct Later {
    /// The program.
    pub program: &'static str,
    /// Command, and instead.
    pub commands: &'static [(&'static str, &'static str)],
    /// Command, option, and instead.
    pub options: &'static [(&'static str, &'static str, &'static str)],
}

impl Later {
    /// The message for arguments (without the program's name) that ask for something of it.
    pub fn refusal(&self, arguments: &[OsString]) -> Option<String> {
        let command = arguments.first()?;
        let refuse = |what: String, instead: &str| {
            format!("error: `{} {what}` is not in this version of Weir; {instead}\n", self.program)
        };
        if let Some((name, instead)) = self.commands.iter().find(|(name, _)| command == name) {
            return Some(refuse((*name).to_owned(), instead));
        }
        let is = |argument: &OsStr, option: &str| {
            let rest = argument.as_encoded_bytes().strip_prefix(option.as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
        };
        let asked = |(of, option, _): &&(&str, &str, &str)| {
            command == of && arguments.iter().any(|argument| is(argument, option))
        };
        let (_, option, instead) = self.options.iter().find(asked)?;
        Some(refuse(format!("{} {option}", command.to_string_lossy()), instead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Later = Later {
        program: "prog",
        commands: &[("import", "write it by hand")],
        options: &[("run", "--take-over", "stop the other first")],
    };

    #[test]
    fn planned_commands_and_options_are_refused_by_name() {
        let import = "error: `prog import` is not in this version of Weir; write it by hand\n";
        let take_over =
            "error: `prog run --take-over` is not in this version of Weir; stop the other first\n";
        let cases = [
            ("import", Some(import)),
            ("import istio --force", Some(import)),
            ("run -c a --take-over", Some(take_over)),
            ("run --take-over=x", Some(take_over)),
            ("run --take-overs", None),
            ("check --take-over", None),
            ("run import", None),
            ("imports", None),
            ("", None),
        ];
        for (line, wanted) in cases {
            let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            assert_eq!(LATER.refusal(&arguments).as_deref(), wanted, "{line}");
        }
    }
}
