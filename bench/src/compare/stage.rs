//! Back ends and proxies, started and listening. Dropping it ends them all.

use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use super::account::Family;
use super::arms::{Arm, End};
use super::children::{self, Child, Program, wait_until};
use super::job::Job;
use super::layout::Layout;
use super::plan::Plan;

/// Connections of the work before that are still there after this long are a leak, and the next sample begins with them.
const QUIET_TIMEOUT: Duration = Duration::from_secs(10);
/// Whether something listens at a port is known at once on a host of our own.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// All that is running. Fields end in this order: proxies, back ends, namespaces, files.
#[derive(Debug)]
pub(super) struct Stage {
    proxies: Vec<Proxy>,
    ends: Vec<(Child, usize)>,
    /// Where.
    pub(super) layout: Layout,
    scratch: TempDir,
    /// Arms that are not there, each with its reason.
    pub(super) left_out: Vec<String>,
    /// Version of each program, as it prints it.
    pub(super) versions: Vec<(String, String)>,
}

/// An arm, and its process; none for direct.
#[derive(Debug)]
struct Proxy {
    arm: Arm,
    running: Option<(Program, Child)>,
}

impl Stage {
    /// Starts everything. The calling thread is pinned to the load's core from then on, and is in its namespace.
    ///
    /// # Errors
    ///
    /// When back ends or Weir cannot be started, or the host refuses cores or namespaces.
    pub(super) fn set(plan: &Plan) -> anyhow::Result<Self> {
        let scratch = tempfile::tempdir().context("a directory for the children's files")?;
        raise_descriptors()?;
        let layout = if plan.namespaces {
            Layout::namespaces(plan.proxy_core, plan.load_core, scratch.path())?
        } else {
            Layout::loopback(plan.proxy_core, plan.load_core)
        };
        // Else reading the clocks could take time of the proxy's core.
        let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: plan.load_core });
        anyhow::ensure!(pinned, "core {} cannot be used: try another --load-core", plan.load_core);
        let (proxies, ends, left_out, versions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut stage = Self { proxies, ends, layout, scratch, left_out, versions };
        for end in End::ALL {
            let started = stage.start_end(end)?;
            stage.ends.push(started);
        }
        for arm in plan.arms.iter().copied() {
            match stage.start_proxy(plan, arm) {
                Ok(proxy) => stage.proxies.push(proxy),
                Err(error) if arm.is_weir() => return Err(error),
                Err(error) => stage.left_out.push(format!("{} is left out: {error:#}", arm.name())),
            }
        }
        Ok(stage)
    }

    /// Starts a back end; returns also the number of its sockets while no one is connected.
    fn start_end(&self, end: End) -> anyhow::Result<(Child, usize)> {
        let address = self.layout.end(end.port());
        let program = Program {
            name: format!("back end {}", end.mode()),
            executable: std::env::current_exe().context("our own program")?,
            arguments: ["serve".into(), end.mode().into(), address.to_string().into()].to_vec(),
            core: Some(self.layout.load_core),
            network_of: None,
        };
        if TcpStream::connect_timeout(&address, PROBE_TIMEOUT).is_ok() {
            bail!("something listens at {address} already: is another comparison running?");
        }
        let mut child = Child::start(&program, self.scratch.path())?;
        // Not by connecting, or that connection could be counted among the idle sockets.
        child.wait_for_output("listening ")?;
        let idle = child.family().sockets();
        Ok((child, idle))
    }

    fn start_proxy(&mut self, plan: &Plan, arm: Arm) -> anyhow::Result<Proxy> {
        let Some(wanted) = arm.program(&plan.weir, plan.before.as_deref()) else {
            return Ok(Proxy { arm, running: None });
        };
        let Some(executable) = children::find(&wanted) else {
            bail!("{} is not installed", wanted.display())
        };
        let version = children::answer(&executable, &[arm.version_argument()])?;
        let arguments = match arm.configuration() {
            Some(name) => arm.arguments(&self.configuration(plan, name)?, self.scratch.path()),
            None => Arm::floor_arguments(&self.layout),
        };
        let program = Program {
            name: arm.name().to_owned(),
            executable,
            arguments,
            core: Some(plan.proxy_core),
            network_of: self.layout.network_of_proxies(),
        };
        let child = self.start(&program, arm)?;
        self.versions.push((arm.name().to_owned(), version));
        Ok(Proxy { arm, running: Some((program, child)) })
    }

    /// Writes an arm's committed configuration as it is for this layout; returns where.
    fn configuration(&self, plan: &Plan, name: &str) -> anyhow::Result<PathBuf> {
        let committed = plan.peers.join(name);
        let text = std::fs::read_to_string(&committed).with_context(|| {
            format!("{}: its configuration; --peers names the directory", committed.display())
        })?;
        let file = self.scratch.path().join(name);
        std::fs::write(&file, self.layout.rewrite(&text))?;
        Ok(file)
    }

    fn start(&self, program: &Program, arm: Arm) -> anyhow::Result<Child> {
        let addresses = End::ALL.map(|end| self.layout.proxy(arm.port(end)));
        // With SO_REUSEPORT two could listen there, and share the connections.
        if let Some(taken) = addresses.iter().find(|at| TcpStream::connect_timeout(at, PROBE_TIMEOUT).is_ok())
        {
            bail!("something listens at {taken} already: is another comparison running?");
        }
        let mut child = Child::start(program, self.scratch.path())?;
        child.wait_until_it_listens(&addresses)?;
        Ok(child)
    }

    /// The arms that are there.
    pub(super) fn arms(&self) -> Vec<Arm> {
        self.proxies.iter().map(|proxy| proxy.arm).collect()
    }

    /// Starts an arm's process anew: memory that it kept from work before is not this work's.
    ///
    /// # Errors
    ///
    /// When it does not start again.
    pub(super) fn restart(&mut self, arm: Arm) -> anyhow::Result<()> {
        let Some(at) = self.proxies.iter().position(|proxy| proxy.arm == arm) else { return Ok(()) };
        let Some((program, child)) = self.proxies[at].running.take() else { return Ok(()) };
        drop(child);
        let child = self.start(&program, arm)?;
        self.proxies[at].running = Some((program, child));
        Ok(())
    }

    /// The arm's processes; none for direct, or an error when they are gone.
    ///
    /// # Errors
    ///
    /// When it has ended by itself, with its last lines.
    pub(super) fn family(&mut self, arm: Arm) -> anyhow::Result<Family> {
        let proxy = self.proxies.iter_mut().find(|proxy| proxy.arm == arm);
        match proxy.and_then(|proxy| proxy.running.as_mut()) {
            Some((_, child)) => child.still_runs().map(|()| child.family()),
            None if arm == Arm::Direct => Ok(Family::together([])),
            None => bail!("{} could not be started again", arm.name()),
        }
    }

    /// The back ends' processes.
    pub(super) fn ends(&self) -> Family {
        Family::together(self.ends.iter().map(|(child, _)| child.family()))
    }

    /// Connections that back ends have: proof that a proxy's upstream legs are there.
    pub(super) fn upstream_connections(&self) -> usize {
        let of = |(child, idle): &(Child, usize)| child.family().sockets().saturating_sub(*idle);
        self.ends.iter().map(of).sum()
    }

    /// Waits until the connections of the work before are gone. If they do not go, the next sample shows it in its figures.
    ///
    /// # Errors
    ///
    /// None but those of the host.
    pub(super) fn wait_until_quiet(&self) -> anyhow::Result<()> {
        wait_until(QUIET_TIMEOUT, || Ok(self.upstream_connections() == 0)).map(drop)
    }

    /// Where the client connects to, to do this through that.
    pub(super) fn target(&self, arm: Arm, job: &Job) -> std::net::SocketAddr {
        let port = arm.port(job.end);
        if arm == Arm::Direct { self.layout.end(port) } else { self.layout.proxy(port) }
    }
}

/// A hold takes a descriptor a connection here and in the back end, two in the proxy: as many as the host allows.
fn raise_descriptors() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).context("raising the number of descriptors to its hard limit")
}
