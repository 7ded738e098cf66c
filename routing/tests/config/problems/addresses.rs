//! Addresses: written in another way, and those that cannot be used.

use super::check_whole;

#[test]
fn addresses_written_in_another_way_are_written_out() {
    check_whole(
        r#"[gateway.other]
listen = ["fe80::1%eth0:80", "[fe80::1%eth0]:80", "::1:5", "010.0.0.1:80", "8080", "80", "localhost:80", "unix:/x", "0.0.0.0 80", "http://0.0.0.0:80"]
"#,
        &[
            "a.toml:2:11 bad-listen `fe80::1%eth0:80` is not an address to listen on",
            r#"  found: "fe80::1%eth0:80""#,
            r#"  wanted: ADDRESS:PORT or ADDRESS:FIRST-LAST, such as "0.0.0.0:5432" or "[::]:6000-6099""#,
            "  help: an address with a scope belongs to one link: use one that is routed, such as 10.0.0.1 or fd00::1",
            "a.toml:2:30 bad-listen `[fe80::1%eth0]:80` is not an address to listen on",
            r#"  found: "[fe80::1%eth0]:80""#,
            r#"  wanted: ADDRESS:PORT or ADDRESS:FIRST-LAST, such as "0.0.0.0:5432" or "[::]:6000-6099""#,
            "  help: an address with a scope belongs to one link: use one that is routed, such as 10.0.0.1 or fd00::1",
            "a.toml:2:51 bad-listen `::1:5` is not an address to listen on",
            r#"  found: "::1:5""#,
            r#"  wanted: ADDRESS:PORT or ADDRESS:FIRST-LAST, such as "0.0.0.0:5432" or "[::]:6000-6099""#,
            r#"  help: write "[::1]:5""#,
            "a.toml:2:60 bad-listen `010.0.0.1:80` is not an address to listen on",
            r#"  found: "010.0.0.1:80""#,
            r#"  wanted: ADDRESS:PORT or ADDRESS:FIRST-LAST, such as "0.0.0.0:5432" or "[::]:6000-6099""#,
            r#"  help: write "10.0.0.1:80""#,
            "a.toml:2:76 bad-listen `8080` has no port",
            r#"  found: "8080""#,
            r#"  wanted: ADDRESS:PORT or ADDRESS:FIRST-LAST, such as "0.0.0.0:5432" or "[::]:6000-6099""#,
            r#"  help: write "0.0.0.0:8080""#,
            "a.toml:2:84 bad-listen `80` has no port",
            r#"  found: "80""#,
            r#"  wanted: ADDRESS:PORT or ADDRESS:FIRST-LAST, such as "0.0.0.0:5432" or "[::]:6000-6099""#,
            r#"  help: write "0.0.0.0:80""#,
            "a.toml:2:90 bad-listen `localhost:80` is not an address to listen on",
            r#"  found: "localhost:80""#,
            r#"  wanted: ADDRESS:PORT or ADDRESS:FIRST-LAST, such as "0.0.0.0:5432" or "[::]:6000-6099""#,
            r#"  help: write "127.0.0.1:80", and "[::1]:80" for IPv6"#,
            "a.toml:2:106 bad-listen `unix:/x` is not an address to listen on",
            r#"  found: "unix:/x""#,
            r#"  wanted: ADDRESS:PORT or ADDRESS:FIRST-LAST, such as "0.0.0.0:5432" or "[::]:6000-6099""#,
            "  help: Weir relays TCP only, not Unix sockets",
            "a.toml:2:117 bad-listen `0.0.0.0 80` has no port",
            r#"  found: "0.0.0.0 80""#,
            r#"  wanted: ADDRESS:PORT or ADDRESS:FIRST-LAST, such as "0.0.0.0:5432" or "[::]:6000-6099""#,
            r#"  help: write "0.0.0.0:80""#,
            "a.toml:2:131 bad-listen `http://0.0.0.0:80` is not an address to listen on",
            r#"  found: "http://0.0.0.0:80""#,
            r#"  wanted: ADDRESS:PORT or ADDRESS:FIRST-LAST, such as "0.0.0.0:5432" or "[::]:6000-6099""#,
            r#"  help: write "0.0.0.0:80""#,
        ],
    );
    check_whole(
        r#"[service.x]
endpoints = ["::1:5", "010.0.0.1:80", "[fe80::1%eth0]:80", "fe80::1%eth0", "10.0.0.1 80", "tcp://10.0.0.1:80", "/run/x.sock", "10.0.0.1:+80", "10.0.0.1:999999999999999999999", "10.0.0.1:"]
"#,
        &[
            "a.toml:2:14 endpoint-without-port an endpoint of service `x`, which has no `ports`, needs a port",
            "  found: ::1:5",
            r#"  wanted: "ADDRESS:PORT""#,
            r#"  help: write "[::1]:5""#,
            "a.toml:2:23 bad-address `010.0.0.1` is neither an address nor a host name",
            "  found: 010.0.0.1:80",
            r#"  wanted: an address or a host name, with or without a port: "10.0.0.1:5432", "[fd00::1]:5432", "db.example.com""#,
            r#"  help: write "10.0.0.1:80""#,
            "a.toml:2:39 bad-address `[fe80::1%eth0]` is neither an address nor a host name",
            "  found: [fe80::1%eth0]:80",
            r#"  wanted: an address or a host name, with or without a port: "10.0.0.1:5432", "[fd00::1]:5432", "db.example.com""#,
            "  help: an address with a scope belongs to one link: use one that is routed, such as 10.0.0.1 or fd00::1",
            "a.toml:2:60 bad-address `fe80::1%eth0` is neither an address nor a host name",
            "  found: fe80::1%eth0",
            r#"  wanted: an address or a host name, with or without a port: "10.0.0.1:5432", "[fd00::1]:5432", "db.example.com""#,
            "  help: an address with a scope belongs to one link: use one that is routed, such as 10.0.0.1 or fd00::1",
            "a.toml:2:76 bad-address `10.0.0.1 80` is neither an address nor a host name",
            "  found: 10.0.0.1 80",
            r#"  wanted: an address or a host name, with or without a port: "10.0.0.1:5432", "[fd00::1]:5432", "db.example.com""#,
            r#"  help: write "10.0.0.1:80""#,
            "a.toml:2:91 bad-address `tcp://10.0.0.1:80` is neither an address nor a host name",
            "  found: tcp://10.0.0.1:80",
            r#"  wanted: an address or a host name, with or without a port: "10.0.0.1:5432", "[fd00::1]:5432", "db.example.com""#,
            r#"  help: write "10.0.0.1:80""#,
            "a.toml:2:112 bad-address `/run/x.sock` is neither an address nor a host name",
            "  found: /run/x.sock",
            r#"  wanted: an address or a host name, with or without a port: "10.0.0.1:5432", "[fd00::1]:5432", "db.example.com""#,
            "  help: Weir relays TCP only, not Unix sockets",
            "a.toml:2:127 bad-address `+80` is not a port",
            "  found: 10.0.0.1:+80",
            r#"  wanted: an address or a host name, with or without a port: "10.0.0.1:5432", "[fd00::1]:5432", "db.example.com""#,
            "a.toml:2:143 bad-port port number 999999999999999999999 must be in the range 1..65535",
            "  found: 999999999999999999999",
            "  wanted: a port from 1 to 65535",
            "a.toml:2:177 bad-address `` is not a port",
            "  found: 10.0.0.1:",
            r#"  wanted: an address or a host name, with or without a port: "10.0.0.1:5432", "[fd00::1]:5432", "db.example.com""#,
        ],
    );
}

#[test]
fn endpoints_that_no_kernel_dials_are_problems() {
    check_whole(
        r#"[service.x]
endpoints = ["0.0.0.0:1", "0.1.2.3:1", "224.0.0.1:1", "255.255.255.255:1", "[fe80::1]:1", "[ff02::1]:1", "[::]:1"]
"#,
        &[
            "a.toml:2:14 bad-address 0.0.0.0 cannot be dialled: it stands for all addresses of a host",
            "  found: 0.0.0.0",
            "  help: name the address of one host",
            "a.toml:2:27 bad-address 0.1.2.3 cannot be dialled: no host has an address in 0.0.0.0/8",
            "  found: 0.1.2.3",
            "  help: name the address of one host",
            "a.toml:2:40 bad-address 224.0.0.1 cannot be dialled: it is a multicast address",
            "  found: 224.0.0.1",
            "  help: name the address of one host",
            "a.toml:2:55 bad-address 255.255.255.255 cannot be dialled: it is the broadcast address",
            "  found: 255.255.255.255",
            "  help: name the address of one host",
            "a.toml:2:76 bad-address fe80::1 cannot be dialled: a link-local address is ambiguous without its link",
            "  found: fe80::1",
            "  help: name the address of one host",
            "a.toml:2:91 bad-address ff02::1 cannot be dialled: it is a multicast address",
            "  found: ff02::1",
            "  help: name the address of one host",
            "a.toml:2:106 bad-address :: cannot be dialled: it stands for all addresses of a host",
            "  found: ::",
            "  help: name the address of one host",
        ],
    );
    check_whole(
        r#"[workload.w]
labels = { app = "x" }
addresses = ["224.0.0.1"]
weight = 0
[service.x]
ports = [{ port = 99 }]
selector = { app = "x" }
"#,
        &[
            "a.toml:3:14 bad-address 224.0.0.1 cannot be dialled: it is a multicast address",
            "  found: 224.0.0.1",
            "  help: name the address of one host",
            "a.toml:4:10 warning weight-zero weight 0: this endpoint of `x` gets no connections",
            "  found: 0",
        ],
    );
}

#[test]
fn an_endpoint_that_is_weirs_admin_is_a_problem() {
    check_whole(
        r#"[service.x]
endpoints = ["127.0.0.1:9347"]
"#,
        &[
            "a.toml:2:14 loop 127.0.0.1:9347 is where Weir itself answers (`admin`), and no endpoint",
            "  found: 127.0.0.1:9347",
            "  help: name the address of the server that should answer, or give `admin` another in [proxy]",
        ],
    );
    check_whole(
        r#"[proxy]
admin = "127.0.0.1:99"
[service.x]
ports = [{ port = 99 }]
endpoints = ["127.0.0.1"]
"#,
        &[
            "a.toml:5:14 loop 127.0.0.1:99 is where Weir itself answers (`admin`), and no endpoint",
            "  found: 127.0.0.1:99",
            "  help: name the address of the server that should answer, or give `admin` another in [proxy]",
        ],
    );
}
