//! `weir-bench serve`: its arguments.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::values;
use crate::exit::{FINE, USAGE};
use crate::serve::{self, Fates, Mode, Settings, relay};

/// The arguments of `weir-bench serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(subcommand)]
    mode: ModeArguments,
}

#[derive(Debug, Subcommand)]
enum ModeArguments {
    /// Send back all bytes that come
    Echo(Place),
    /// Read all; checked, and answered with a verdict, if the client asks with a header
    Sink(Place),
    /// Send pattern until the reader is gone
    Source(Place),
    /// Send back each line, with a prefix
    Lines {
        #[command(flatten)]
        place: Place,
        /// Text before each line, followed by a space
        #[arg(long, default_value = "")]
        prefix: String,
    },
    /// Answer the framed requests of `weir-bench run rr` and `crr`, in the sizes they ask for
    Rr(Place),
    /// Speak first, then only listen
    Banner {
        #[command(flatten)]
        place: Place,
        /// Its greeting
        #[arg(long, default_value = "hello\n")]
        text: String,
    },
    /// An echo that takes its time
    Slow {
        #[command(flatten)]
        place: Place,
        /// How long bytes are kept before they are sent back: `50ms`, `1s`
        #[arg(long, value_name = "TIME", default_value = "0s", value_parser = values::time)]
        delay: Duration,
        /// Bytes a second that are read [default: as many as come]
        #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
        rate: Option<u64>,
    },
    /// An echo that does not treat all connections well
    Flaky {
        #[command(flatten)]
        place: Place,
        /// Fraction of connections that are reset at once
        #[arg(long, value_name = "FRACTION", default_value_t = 0.0, value_parser = fraction)]
        refuse: f64,
        /// Fraction of connections that are reset after up to 64 KiB
        #[arg(long, value_name = "FRACTION", default_value_t = 0.0, value_parser = fraction)]
        reset: f64,
        /// Fraction of connections that are closed after up to 64 KiB
        #[arg(long, value_name = "FRACTION", default_value_t = 0.0, value_parser = fraction)]
        close: f64,
        /// Fraction of connections that are neither read nor answered after up to 64 KiB
        #[arg(long, value_name = "FRACTION", default_value_t = 0.0, value_parser = fraction)]
        stall: f64,
        /// Where chance starts: the same seed, the same fates
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Relay to an upstream, with one thread that receives and sends and does nothing else: the floor of `compare`
    Relay(Routes),
}

/// Where a relay listens, and where its connections lead.
#[derive(Clone, Debug, Args)]
struct Routes {
    /// Address to listen on (port 0 is any free one, printed on stderr), and the upstream; more such pairs may follow
    #[arg(required = true, num_args = 2.., value_names = ["ADDRESS:PORT", "UPSTREAM"])]
    addresses: Vec<SocketAddr>,
    /// Core that its one thread is pinned to [default: not pinned]
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// Connections that may wait to be accepted; no more than net.core.somaxconn counts
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(i32).range(1..))]
    backlog: i32,
}

/// Where a back end is and with how much.
#[derive(Clone, Debug, Args)]
struct Place {
    /// Addresses to listen on; port 0 is any free one, which is printed on stderr
    #[arg(required = true, value_name = "ADDRESS:PORT")]
    addresses: Vec<SocketAddr>,
    /// Threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
    /// Core the first thread is pinned to; the next thread has the next core [default: not pinned]
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// Connections that may wait to be accepted; no more than net.core.somaxconn counts
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(i32).range(1..))]
    backlog: i32,
}

fn fraction(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(fraction) if (0.0..=1.0).contains(&fraction) => Ok(fraction),
        _ => Err("wanted a fraction from 0 to 1, such as 0.05".to_owned()),
    }
}

/// A back end or a relay, with its settings.
enum Order {
    BackEnd(Settings),
    Relay(relay::Settings),
}

impl ModeArguments {
    /// The order they are, or why they are none.
    fn order(self) -> Result<Order, &'static str> {
        let (mode, place) = match self {
            ModeArguments::Echo(place) => (Mode::Echo, place),
            ModeArguments::Sink(place) => (Mode::Sink, place),
            ModeArguments::Source(place) => (Mode::Source, place),
            ModeArguments::Lines { place, prefix } => (Mode::Lines { prefix }, place),
            ModeArguments::Rr(place) => (Mode::Rr, place),
            ModeArguments::Banner { place, text } => (Mode::Banner { text }, place),
            ModeArguments::Slow { place, delay, rate } => (Mode::Slow { delay, rate }, place),
            ModeArguments::Flaky { place, refuse, reset, close, stall, seed } => {
                if refuse + reset + close + stall > 1.0 {
                    return Err("the fractions of flaky add up to more than 1");
                }
                (Mode::Flaky(Fates { refuse, reset, close, stall, seed }), place)
            }
            ModeArguments::Relay(Routes { addresses, core, backlog }) => {
                let (routes, rest) = addresses.as_chunks();
                if !rest.is_empty() {
                    return Err("the last address to listen on has no upstream");
                }
                let routes: Vec<_> = routes.iter().map(|[listen, upstream]| (*listen, *upstream)).collect();
                if routes.iter().any(|(listen, upstream)| upstream.port() == 0 || upstream == listen) {
                    return Err("an upstream has a port, and another address than the one listened on");
                }
                return Ok(Order::Relay(relay::Settings { routes, core, backlog }));
            }
        };
        let Place { addresses, threads, core, backlog } = place;
        Ok(Order::BackEnd(Settings { mode, addresses, threads: threads.into(), core, backlog }))
    }
}

impl Serve {
    /// Serves until SIGTERM or SIGINT, the ordinary end of a back end.
    pub(super) fn main(self) -> anyhow::Result<u8> {
        let order = match self.mode.order() {
            Ok(order) => order,
            Err(message) => {
                let _ = writeln!(io::stderr(), "weir-bench: {message}");
                return Ok(USAGE);
            }
        };
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&stop)).context("signals")?;
        }
        let served = match order {
            Order::BackEnd(settings) => serve::run(&settings, &stop)?,
            Order::Relay(settings) => relay::run(&settings, &stop)?,
        };
        let serve::Served { connections, broken, bytes_in, bytes_out, faults } = served;
        // The reader of stderr may have gone by now, which is no failure.
        let _ = writeln!(
            io::stderr(),
            "served connections={connections} broken={broken} bytes_in={bytes_in} bytes_out={bytes_out} faults={faults}"
        );
        Ok(FINE)
    }
}
