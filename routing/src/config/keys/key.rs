//! A key of the configuration: its type, its default and a sentence about it, or, where only a later version of Weir reads it,
//! the value that changes nothing and the advice.

/// The keys that stand in one table of a configuration.
#[derive(Debug)]
pub struct KeyTable {
    /// How the table is written: "[gateway.NAME]".
    pub header: &'static str,
    /// The paths that lead to it; `*` stands for any name and for any element of a list.
    pub paths: &'static [&'static str],
    /// In the order of the documentation.
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Whether this version reads it.
    pub status: Status,
}

/// Whether this version reads a key.
#[derive(Debug)]
pub enum Status {
    /// It does.
    Read {
        /// The TOML type.
        kind: Kind,
        /// The things that a number counts, or the smallest unit of a duration; "" where there is neither.
        unit: &'static str,
        /// The value where the key is left out.
        default: LeftOut,
        /// The first version that reads it.
        since: &'static str,
        /// One sentence.
        about: &'static str,
    },
    /// Only a later version does.
    Later {
        /// The value that changes nothing in this version, and is accepted.
        same: Same,
        /// The advice that a refusal gives.
        instead: &'static str,
    },
}

/// The TOML type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Flag,
    /// A string of whole numbers with their units: "1h30m".
    Duration,
    /// A list of strings.
    Texts,
    /// A list of whole numbers and strings.
    Ports,
    /// A table with strings for values, under keys of the writer's own.
    Labels,
    /// The same with whole numbers.
    Numbers,
    /// A table.
    Table,
    /// A list of tables.
    Tables,
    /// A list of tables, or the string "any".
    TablesOrAny,
    /// A list of tables and strings.
    TablesAndTexts,
}

/// The value of a key that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// As it would be written.
    Value(&'static str),
    /// In words.
    Otherwise(&'static str),
    /// It may not be left out.
    Required,
}

/// The value of a later version's key that changes nothing in this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Same {
    /// None does.
    Never,
    /// This string.
    Word(&'static str),
    /// 0, or a duration of zero.
    Zero,
    /// `false`.
    False,
    /// An empty list.
    EmptyList,
    /// A table with `enabled = false`.
    Disabled,
}

impl Same {
    /// The value as it is written.
    pub fn written(self) -> Option<String> {
        Some(match self {
            Self::Never => return None,
            Self::Word(word) => format!("\"{word}\""),
            Self::Zero => "0".to_owned(),
            Self::False => "false".to_owned(),
            Self::EmptyList => "[]".to_owned(),
            Self::Disabled => "{ enabled = false }".to_owned(),
        })
    }
}
