//! A 64-bit hash that is the same on every host, build and restart; `sticky` and `source_ip` choose by it. The standard
//! library's hashers promise no such thing. It is not meant to withstand a search for collisions: a client that chooses its
//! source address chooses no more than which endpoint serves it.

use std::net::IpAddr;

/// FNV-1a over the bytes, 64 bits, then [`mix`]: FNV alone leaves the high bits of short inputs nearly untouched.
pub(crate) fn bytes(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    mix(bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME)))
}

/// An address, by its 4 or 16 octets.
pub(crate) fn address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => bytes(&v4.octets()),
        IpAddr::V6(v6) => bytes(&v6.octets()),
    }
}

/// Two hashes as one; the order matters.
pub(crate) fn join(left: u64, right: u64) -> u64 {
    mix(left.rotate_left(32).wrapping_add(mix(right)))
}

/// The finalizer of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn mix(hash: u64) -> u64 {
    let hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this fails, sources of every installation change their endpoint with the next release.
    #[test]
    fn values_never_change() {
        assert_eq!(bytes(b""), 0xc381_7c01_6ba4_ff30);
        assert_eq!(bytes(b"default/db"), 0x7eda_5f77_7adc_2abe);
        assert_eq!(address(IpAddr::from([10, 0, 0, 1])), 0x6a2d_2ded_2339_e4a3);
        assert_eq!(join(1, 2), 0x31d4_21fc_b662_c30e);
    }
}
