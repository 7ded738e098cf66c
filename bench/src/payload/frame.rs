//! Headers of requests, responses and streams, from which the other end learns how to answer and to check.
//!
//! A header is 16 bytes, little endian: connection, length of the whole frame, then the wanted answer or the status, then a seal
//! of 24 check bits over all of it and 8 bits for its kind. A header out of place or changed does not decode.
//! The bytes behind the header are pattern, made from its place in the stream, which counts headers too.

use crate::payload::fault::FaultKind;
use crate::payload::pattern::CONNECTIONS;
use crate::settings::Verify;

/// Bytes of a header.
pub const HEADER: usize = 16;

/// Purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Answer it with a response.
    Exchange,
    /// All bytes behind it are for a sink, which reports at the end what it received.
    StreamUp,
    /// Send pattern until the reader is gone.
    StreamDown,
}

/// A request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks.
    pub connection: u32,
    /// Bytes of the request, this header included. Streams have no length.
    pub length: u32,
    /// Bytes of the wanted response, its header included.
    pub answer: u32,
    /// How closely both ends look.
    pub verify: Verify,
    /// Its purpose.
    pub kind: Kind,
}

/// A response of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// Who asked.
    pub connection: u32,
    /// Bytes of the response, this header included. In a sink's verdict: the low 32 bits of the bytes that it got.
    pub length: u32,
    /// The server's verdict on the request.
    pub status: Status,
}

/// A server's verdict on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As it had to be.
    Fine,
    /// It was not: the kind, with as much of its number as fits 28 bits.
    Faulty(Complaint),
}

/// A [`FaultKind`] that fits into a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Complaint(u32);

const NUMBER_BITS: u32 = 28;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;

impl Complaint {
    /// A number that does not fit is sent as the largest that does.
    pub fn new(kind: &FaultKind) -> Complaint {
        let (code, number) = match *kind {
            FaultKind::Missing(bytes) => (1, bytes),
            FaultKind::Duplicated(bytes) => (2, bytes),
            FaultKind::Flipped(bits) => (3, u64::from(bits)),
            FaultKind::Swapped => (4, 0),
            FaultKind::Foreign(other) => (5, u64::from(other)),
            FaultKind::Garbage => (6, 0),
            FaultKind::Cut(bytes) => (7, bytes),
        };
        Complaint(code << NUMBER_BITS | number.min(NUMBER_MASK) as u32)
    }

    /// The kind again.
    pub fn kind(self) -> FaultKind {
        let number = u64::from(self.0) & NUMBER_MASK;
        match self.0 >> NUMBER_BITS {
            1 => FaultKind::Missing(number),
            2 => FaultKind::Duplicated(number),
            3 => FaultKind::Flipped(number as u32),
            4 => FaultKind::Swapped,
            5 => FaultKind::Foreign(number as u32),
            7 => FaultKind::Cut(number),
            _ => FaultKind::Garbage,
        }
    }
}

const RESPONSE: u32 = 0x10;
const REQUEST: u32 = 0x20;

/// 32 bits of which each depends on every bit of the fields and the label; the label itself is its low 8 bits.
fn seal(fields: [u32; 3], label: u32) -> u32 {
    let mut sum = 0x5eed_f00d_1234_5678;
    for field in [label].into_iter().chain(fields) {
        sum = (sum ^ u64::from(field)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        sum ^= sum >> 32;
    }
    sum as u32 & !0xff | label
}

fn pack(fields: [u32; 3], label: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    for (place, field) in
        bytes.as_chunks_mut::<4>().0.iter_mut().zip(fields.into_iter().chain([seal(fields, label)]))
    {
        *place = field.to_le_bytes();
    }
    bytes
}

/// The three fields and the label, if the seal is unbroken and the connection possible.
fn unpack(bytes: &[u8; HEADER]) -> Option<([u32; 3], u32)> {
    let [first, second, third, sealed] = [0, 4, 8, 12].map(|at| {
        let mut field = [0; 4];
        field.copy_from_slice(&bytes[at..at + 4]);
        u32::from_le_bytes(field)
    });
    let fields = [first, second, third];
    (seal(fields, sealed & 0xff) == sealed && first < CONNECTIONS).then_some((fields, sealed & 0xff))
}

impl Request {
    /// Its 16 bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let verify = match self.verify {
            Verify::Off => 0,
            Verify::Stamp => 1,
            Verify::Full => 2,
        };
        let kind = match self.kind {
            Kind::Exchange => 0,
            Kind::StreamUp => 1,
            Kind::StreamDown => 2,
        };
        pack([self.connection, self.length, self.answer], REQUEST | kind << 2 | verify)
    }

    /// Reads 16 bytes, if they are a request.
    pub fn decode(bytes: &[u8; HEADER]) -> Option<Request> {
        let ([connection, length, answer], label) = unpack(bytes)?;
        let verify = match label & 3 {
            0 => Verify::Off,
            1 => Verify::Stamp,
            2 => Verify::Full,
            _ => return None,
        };
        let kind = match label & !3 {
            l if l == REQUEST => Kind::Exchange,
            l if l == REQUEST | 1 << 2 => Kind::StreamUp,
            l if l == REQUEST | 2 << 2 => Kind::StreamDown,
            _ => return None,
        };
        let fits = kind != Kind::Exchange || (length >= HEADER as u32 && answer >= HEADER as u32);
        fits.then_some(Request { connection, length, answer, verify, kind })
    }
}

impl Response {
    /// Its 16 bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let status = match self.status {
            Status::Fine => 0,
            Status::Faulty(complaint) => complaint.0,
        };
        pack([self.connection, self.length, status], RESPONSE)
    }

    /// Reads 16 bytes, if they are a response.
    pub fn decode(bytes: &[u8; HEADER]) -> Option<Response> {
        let ([connection, length, status], label) = unpack(bytes)?;
        let status = if status == 0 { Status::Fine } else { Status::Faulty(Complaint(status)) };
        (label == RESPONSE).then_some(Response { connection, length, status })
    }
}

/// Whose header these bytes are, request or response.
pub fn owner(bytes: &[u8; HEADER]) -> Option<u32> {
    Request::decode(bytes).map(|r| r.connection).or_else(|| Response::decode(bytes).map(|r| r.connection))
}

/// The header that these bytes were before one bit of them was flipped.
pub fn repaired(bytes: &[u8; HEADER]) -> Option<[u8; HEADER]> {
    (0..HEADER * 8).find_map(|bit| {
        let mut tried = *bytes;
        tried[bit / 8] ^= 1 << (bit % 8);
        owner(&tried).map(|_| tried)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Vec<Request> {
        let mut all = Vec::new();
        for kind in [Kind::Exchange, Kind::StreamUp, Kind::StreamDown] {
            for verify in [Verify::Off, Verify::Stamp, Verify::Full] {
                for (connection, length, answer) in
                    [(0, 16, 16), (CONNECTIONS - 1, u32::MAX, 64), (7, 64, u32::MAX)]
                {
                    all.push(Request { connection, length, answer, verify, kind });
                }
            }
        }
        all
    }

    fn responses() -> Vec<Response> {
        let kinds = [
            FaultKind::Missing(5),
            FaultKind::Duplicated(4096),
            FaultKind::Flipped(3),
            FaultKind::Swapped,
            FaultKind::Foreign(CONNECTIONS - 1),
            FaultKind::Garbage,
            FaultKind::Cut(1),
        ];
        let statuses = kinds.iter().map(|kind| Status::Faulty(Complaint::new(kind))).chain([Status::Fine]);
        statuses.map(|status| Response { connection: 9, length: 80, status }).collect()
    }

    #[test]
    fn a_header_reads_back_as_what_it_is_and_as_nothing_else() {
        for request in requests() {
            assert_eq!(Request::decode(&request.encode()), Some(request));
            assert_eq!(Response::decode(&request.encode()), None);
        }
        for response in responses() {
            assert_eq!(Response::decode(&response.encode()), Some(response));
            assert_eq!(Request::decode(&response.encode()), None);
        }
    }

    #[test]
    fn a_header_with_any_bit_flipped_is_none_and_can_be_repaired() {
        let headers = requests()
            .iter()
            .map(Request::encode)
            .chain(responses().iter().map(Response::encode))
            .collect::<Vec<_>>();
        for header in headers {
            for bit in 0..HEADER * 8 {
                let mut flipped = header;
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(owner(&flipped), None, "{header:?} bit {bit}");
                assert_eq!(repaired(&flipped), Some(header), "{header:?} bit {bit}");
            }
        }
    }

    #[test]
    fn an_exchange_shorter_than_its_header_is_refused() {
        for (length, answer) in [(15, 16), (16, 15), (0, 0)] {
            let request =
                Request { connection: 1, length, answer, verify: Verify::Full, kind: Kind::Exchange };
            assert_eq!(Request::decode(&request.encode()), None);
        }
    }

    #[test]
    fn a_complaint_keeps_its_kind_and_a_number_too_large_is_sent_as_the_largest() {
        assert_eq!(Complaint::new(&FaultKind::Missing(17)).kind(), FaultKind::Missing(17));
        assert_eq!(Complaint::new(&FaultKind::Cut(u64::MAX)).kind(), FaultKind::Cut(NUMBER_MASK));
    }
}
