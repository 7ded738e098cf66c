//! The parts of a connection's first bytes that rules can ask for, as far as they are known when it is decided. Reading them is
//! left to the owner of the socket.
//!
//! A part that is not known yet is a class like any other: every condition on it holds. So the first rule that holds in
//! everything else is found, and only if that rule cannot do without the part is the verdict to wait for it.

/// One part of the first bytes, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Known<T> {
    /// Too little has come to know it, or nothing was read yet.
    #[default]
    Unknown,
    /// The bytes do not have it.
    Absent,
    /// They have this.
    Value(T),
}

/// A part of the first bytes that a rule can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstPart {
    /// The server name of a TLS ClientHello.
    Sni,
}

/// All that is known of the first bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirstBytes<'b> {
    /// The server name of a TLS ClientHello, in lower case.
    pub sni: Known<&'b str>,
}

impl FirstBytes<'_> {
    /// Nothing was read yet.
    pub const UNKNOWN: Self = Self { sni: Known::Unknown };
    /// Bytes in which there is nothing to look at: neither TLS nor HTTP.
    pub const ABSENT: Self = Self { sni: Known::Absent };
}
