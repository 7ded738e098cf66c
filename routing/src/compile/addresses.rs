//! Addresses and networks: the meaning of their texts, their problems, and which of them a connection can be made to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use super::report::Report;
use crate::config::{Text, place_of};
use crate::problem::Problem;

/// A network, host bits masked with a warning; a bare address is a network of one; IPv4-mapped IPv6 is IPv4.
pub(super) fn network(report: &mut Report, file: u32, written: &Text) -> Option<IpNet> {
    let text = written.get_ref();
    let place = place_of(file, written);
    if !text.contains('/') {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(IpNet::from(address.to_canonical()));
        }
        let problem = Problem::error("bad-address", place, format!("{text} is not a valid IP")).found(text);
        let problem = problem.wanted("an address (10.0.0.1, fd00::1) or a network (10.0.0.0/8)");
        report.push(advice(text).into_iter().fold(problem, Problem::help));
        return None;
    }
    let Ok(net) = text.parse::<IpNet>() else {
        let problem = Problem::error("bad-cidr", place, format!("{text} is not a valid CIDR block"));
        let problem = problem.found(text).wanted("a network such as 10.0.0.0/8 or fd00::/8");
        report.push(network_advice(text).into_iter().fold(problem, Problem::help));
        return None;
    };
    let masked = net.trunc();
    if masked != net {
        let message = format!("{text} has host bits: it means {masked}");
        report.push(Problem::warning("host-bits", place, message).found(text).wanted(masked.to_string()));
    }
    Some(canonical(masked))
}

fn canonical(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(address), Some(length)) => Ipv4Net::new(address, length).map_or(net, IpNet::V4),
        _ => net,
    }
}

/// ADDR:PORT, IPv6 in brackets.
pub(super) fn socket(report: &mut Report, file: u32, written: &Text) -> Option<SocketAddr> {
    match written.get_ref().parse::<SocketAddr>() {
        // A scope, which only a link-local address may have, is nothing that is listened on or compared.
        Ok(address) if !written.get_ref().contains('%') => {
            Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
        }
        _ => {
            let text = written.get_ref();
            let message = format!("`{text}` is not an address with a port");
            let problem = Problem::error("bad-address", place_of(file, written), message).found(text);
            let problem = problem.wanted("ADDRESS:PORT, such as 10.0.0.1:5432 or [fd00::1]:5432");
            report.push(advice(text).into_iter().fold(problem, Problem::help));
            None
        }
    }
}

/// Advice for a text that is no address, with or without a port.
pub(super) fn advice(text: &str) -> Option<String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let known = matches!(scheme, "tcp" | "tcp4" | "tcp6" | "http" | "https" | "tls" | "ssl");
        return known.then(|| format!("write \"{}\"", rest.split('/').next().unwrap_or(rest)));
    }
    if text.starts_with('/') || text.starts_with("unix:") {
        return Some("Weir relays TCP only, not Unix sockets".to_owned());
    }
    if text.contains('%') {
        return Some("an address with a scope belongs to one link: use one that is routed, such as 10.0.0.1 or fd00::1".to_owned());
    }
    if let Some((host, port)) = text.split_once(char::is_whitespace)
        && port.trim().parse::<u16>().is_ok()
    {
        return Some(format!("write \"{host}:{}\"", port.trim()));
    }
    bracketed(text).or_else(|| without_leading_zeros(text)).map(|text| format!("write \"{text}\""))
}

/// "::1:80" as "[::1]:80", where the part before the last colon is an address.
pub(super) fn bracketed(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let port_like = port.parse::<u16>().is_ok() || port.contains('-');
    (port_like && host.parse::<Ipv6Addr>().is_ok()).then(|| format!("[{host}]:{port}"))
}

/// "010.0.0.1:80" as "10.0.0.1:80": some programs read such numbers as octal ones.
fn without_leading_zeros(text: &str) -> Option<String> {
    let end = text.find([':', '/']).unwrap_or(text.len());
    let (host, rest) = text.split_at(end);
    let parts: Vec<&str> = host.split('.').collect();
    if parts.len() != 4 || parts.iter().any(|part| part.is_empty() || part.len() > 8) {
        return None;
    }
    let numbers: Option<Vec<u8>> =
        parts.iter().map(|part| part.trim_start_matches('0').parse().or(part.parse()).ok()).collect();
    let plain: Vec<String> = numbers?.iter().map(u8::to_string).collect();
    Some(plain.join(".") + rest).filter(|plain| plain != text)
}

/// Advice for a text that is no network.
fn network_advice(text: &str) -> Option<String> {
    let (address, mask) = text.split_once('/')?;
    let netmask = || {
        let net = Ipv4Net::with_netmask(address.parse().ok()?, mask.parse::<Ipv4Addr>().ok()?).ok()?;
        Some(format!("write \"{net}\""))
    };
    netmask().or_else(|| advice(text))
}

/// Why no connection can be made to an address, whatever the network: "it ...".
pub(super) fn cannot_be_dialled(ip: IpAddr) -> Option<&'static str> {
    match ip {
        _ if ip.is_unspecified() => Some("it stands for all addresses of a host"),
        _ if ip.is_multicast() => Some("it is a multicast address"),
        IpAddr::V4(ip) if ip.is_broadcast() => Some("it is the broadcast address"),
        IpAddr::V4(ip) if ip.octets()[0] == 0 => Some("no host has an address in 0.0.0.0/8"),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            Some("a link-local address is ambiguous without its link")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_no_address_gets_the_nearest_one() {
        let cases = [
            ("tcp://10.0.0.1:80", Some("write \"10.0.0.1:80\"")),
            ("http://10.0.0.1:80/x", Some("write \"10.0.0.1:80\"")),
            ("10.0.0.1 80", Some("write \"10.0.0.1:80\"")),
            ("::1:80", Some("write \"[::1]:80\"")),
            ("fd00::1:6000-6099", Some("write \"[fd00::1]:6000-6099\"")),
            ("010.0.0.01:080", Some("write \"10.0.0.1:080\"")),
            ("10.0.0.00", Some("write \"10.0.0.0\"")),
            ("10.0.0.256", None),
            ("10.0.0", None),
            ("nonsense", None),
            ("", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(advice(text).as_deref(), wanted, "{text}");
        }
        assert!(advice("fe80::1%eth0").unwrap().contains("scope"));
        assert!(advice("unix:/run/x.sock").unwrap().contains("TCP only"));
        assert_eq!(network_advice("10.0.0.0/255.0.0.0").as_deref(), Some("write \"10.0.0.0/8\""));
        assert_eq!(network_advice("10.0.0.0/33"), None);
    }

    #[test]
    fn addresses_that_no_kernel_dials_are_known() {
        let never = [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
        ];
        for address in never {
            assert!(cannot_be_dialled(address.parse().unwrap()).is_some(), "{address}");
        }
        for address in ["1.0.0.0", "127.0.0.1", "223.255.255.255", "240.0.0.1", "::1", "fec0::1", "fd00::1"] {
            assert_eq!(cannot_be_dialled(address.parse().unwrap()), None, "{address}");
        }
    }
}
