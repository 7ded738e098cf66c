//! Every family of series that `/metrics` shows: the one list from which the lines of help, the labels of samples and the tables of
//! `docs/metrics.md` are written.

use super::text::{Family, Kind};

macro_rules! families {
    ($($section:literal { $($id:ident: $kind:ident $name:literal [$($label:literal),*] $unit:literal, $since:literal, $help:literal;)* })*) => {
        $($(
            #[doc = $help]
            pub(crate) const $id: Family = Family {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                unit: $unit,
                since: $since,
                help: $help,
            };
        )*)*

        /// All of them, under the headings of the page.
        #[cfg(test)]
        pub(crate) const SECTIONS: &[(&str, &[Family])] = &[$(($section, &[$($id),*])),*];
    };
}

families! {
    "Connections" {
        CONNECTIONS_OPENED: Counter "weir_connections_opened_total" ["gateway", "route"] "connections", "0.1.0",
            "Connections whose route was decided, or that ended without one; those of routes that are gone count under route \"\".";
        CONNECTIONS_CLOSED: Counter "weir_connections_closed_total" ["gateway", "service", "subset", "reason", "fault"] "connections", "0.1.0",
            "Connections that ended, by reason; those of services that are gone count under service \"\".";
        CONNECTIONS_ACTIVE: Gauge "weir_connections_active" ["gateway", "service", "subset"] "connections", "0.1.0",
            "Connections that are open or being dialled.";
        BYTES: Counter "weir_bytes_total" ["service", "subset", "direction"] "bytes", "0.1.0",
            "Bytes delivered: up to upstreams, down to clients. Moves during a connection.";
        UNKNOWN_SOURCE: Counter "weir_unknown_source_total" ["gateway"] "connections", "0.1.0",
            "Connections from sources that no workload owns.";
    }
    "Endpoints" {
        ENDPOINT_ACTIVE: Gauge "weir_endpoint_connections_active" ["service", "endpoint"] "connections", "0.1.0",
            "Connections to an endpoint that are open or being dialled.";
        ENDPOINT_CONNECTED: Counter "weir_endpoint_connections_total" ["service", "endpoint"] "dials", "0.1.0",
            "Dials to an endpoint that connected.";
        ENDPOINT_ERRORS: Counter "weir_endpoint_connect_errors_total" ["service", "endpoint", "reason"] "dials", "0.1.0",
            "Dials to an endpoint that failed, also where another one took over.";
        RESOLVE_FAILURES: Counter "weir_resolve_failures_total" ["host"] "questions", "0.1.0",
            "Questions for a host name that had no answer.";
    }
    "Limits and shards" {
        LIMIT: Gauge "weir_limit" ["scope", "name"] "connections", "0.1.0",
            "The limit of connections of the process, a gateway, a service or a subset; there is no sample where there is no limit. The process always has one: what its descriptors allow.";
        LIMIT_USED: Gauge "weir_limit_used" ["scope", "name"] "connections", "0.1.0",
            "Connections that count against it, or would: open, dialling, or about to be decided.";
        LIMITED_SOURCES: Gauge "weir_limited_sources" ["gateway"] "addresses", "0.1.0",
            "Client addresses that the gateway's limits for sources keep an account of.";
        SHARD_ACTIVE: Gauge "weir_shard_connections_active" ["shard"] "connections", "0.1.0",
            "Connections that a shard has, with those handed to it.";
        HANDOVERS: Counter "weir_handovers_total" [] "sockets", "0.1.0",
            "Sockets that one shard accepted and another serves.";
        ACCEPT_ERRORS: Counter "weir_accept_errors_total" ["errno"] "accepts", "0.1.0",
            "Accepts that failed; EMFILE is the descriptor limit, on which accepting rests.";
        SOURCE_PORTS_EXHAUSTED: Counter "weir_source_ports_exhausted_total" [] "dials", "0.1.0",
            "Dials that found no free source port.";
    }
    "The relay" {
        SPLICED_BYTES: Counter "weir_spliced_bytes_total" [] "bytes", "0.1.0",
            "Bytes moved without copying.";
        COPIED_BYTES: Counter "weir_copied_bytes_total" [] "bytes", "0.1.0",
            "Bytes moved through a buffer.";
        PIPES_IN_USE: Gauge "weir_pipes_in_use" [] "pipes", "0.1.0",
            "Pipes that sessions hold.";
        PIPES_MAX: Gauge "weir_pipes_max" [] "pipes", "0.1.0",
            "Pipes that sessions may hold.";
        TAILS_IN_USE: Gauge "weir_tails_in_use" [] "buffers", "0.1.0",
            "Buffers with bytes that a reader has not taken yet.";
        TAIL_BYTES: Gauge "weir_tail_bytes" [] "bytes", "0.1.0",
            "Memory of these buffers.";
        TAIL_BYTES_MAX: Gauge "weir_tail_bytes_max" [] "bytes", "0.1.0",
            "Memory that these buffers may take; past half of it sessions read less at a time.";
        STALE_COMPLETIONS: Counter "weir_stale_completions_total" [] "completions", "0.1.0",
            "Completions for a slot's earlier life, dropped.";
    }
    "Configuration and process" {
        BUILD_INFO: Gauge "weir_build_info" ["version", "commit"] "", "0.1.0",
            "Always 1; the labels name what was built.";
        GENERATION: Gauge "weir_config_generation" [] "tables", "0.1.0",
            "The table that every shard routes by; grows with each that comes into force.";
        RELOAD_SUCCESSFUL: Gauge "weir_config_last_reload_successful" [] "", "0.1.0",
            "0 if the last configuration that was read is not in force.";
        RELOAD_SUCCESS: Gauge "weir_config_last_reload_success_timestamp_seconds" [] "seconds since 1970", "0.1.0",
            "When a configuration that was read last came into force.";
        RELOAD_FAILURES: Counter "weir_config_reload_failures_total" [] "configurations", "0.1.0",
            "Configurations that were read and refused.";
        RESTART_NEEDED: Gauge "weir_config_restart_needed" [] "", "0.1.0",
            "1 if the configuration in force changes what only a restart can change.";
        DRAINING: Gauge "weir_draining" [] "", "0.1.0",
            "1 while draining.";
        PANICS: Counter "weir_panics_total" [] "panics", "0.1.0",
            "Defects of Weir that were caught; the log describes each.";
        LOG_DROPPED: Counter "weir_log_dropped_total" [] "lines", "0.1.0",
            "Lines of the process log that were dropped because stderr was not read.";
        PROCESS_CPU: Counter "process_cpu_seconds_total" [] "seconds", "0.1.0",
            "User and system time in seconds.";
        PROCESS_RESIDENT: Gauge "process_resident_memory_bytes" [] "bytes", "0.1.0",
            "Resident memory in bytes.";
        PROCESS_VIRTUAL: Gauge "process_virtual_memory_bytes" [] "bytes", "0.1.0",
            "Virtual memory in bytes.";
        PROCESS_START: Gauge "process_start_time_seconds" [] "seconds since 1970", "0.1.0",
            "When the process started, in seconds since 1970.";
        PROCESS_OPEN: Gauge "process_open_fds" [] "descriptors", "0.1.0",
            "Open descriptors.";
        PROCESS_MAX: Gauge "process_max_fds" [] "descriptors", "0.1.0",
            "Descriptors that may be open.";
    }
}
