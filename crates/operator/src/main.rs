//! The operator: keeps agent homes on Kubernetes as `AgentHome` objects describe them.
//!
//! *Lives here:* the command line, and the order of a run.
//!
//! *Does not live here:* decisions (`plan`, `lease`), and requests to the API server (`reconcile`,
//! `election`).
//!
//! *May depend on it:* nothing. No crate of the supervisor or of the command line knows it.
#![forbid(unsafe_code)]

mod api;
mod backoff;
mod election;
mod health;
mod lease;
mod looks;
mod manifests;
mod plan;
mod pod_api;
mod reconcile;
mod told;
mod yaml;

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::{Parser, Subcommand};
use gatevisor_term::stream;
use gatevisor_wire::exit::Exit;
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};

use election::Election;
use health::OperatorCounts;
use told::say;

/// Keep agent homes on Kubernetes as objects of the type `AgentHome` describe them
#[derive(Parser)]
#[command(name = "gatevisor-operator", version)]
struct OperatorArguments {
    #[command(subcommand)]
    command: OperatorCommand,
}

#[derive(Subcommand)]
enum OperatorCommand {
    /// Run until SIGTERM or SIGINT; of several operators, the one that holds the lease acts
    Run {
        /// Hold the lease in this namespace
        #[arg(long, env = "POD_NAMESPACE", default_value = "gatevisor-system")]
        namespace: String,
        /// Hold the lease under this name, which no other operator may have
        #[arg(long, env = "POD_NAME")]
        name: Option<String>,
        /// Answer `/healthz` and `/metrics` at this port; without it, nobody is answered
        #[arg(long)]
        port: Option<u16>,
        /// Answer at this address
        #[arg(long, env = "POD_IP", default_value = "127.0.0.1")]
        address: IpAddr,
    },
    /// Print what has to be applied to a cluster: the CRD, the rights and the deployment
    Manifests {
        /// Run the operator in this namespace
        #[arg(long, default_value = "gatevisor-system")]
        namespace: String,
        /// Use this image of the operator
        #[arg(long, default_value = "gatevisor-operator:latest")]
        image: String,
    },
}

fn main() -> ExitCode {
    let arguments = match OperatorArguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    let done = match arguments.command {
        OperatorCommand::Run { namespace, name, port, address } => {
            run(&namespace, name, port.map(|port| SocketAddr::new(address, port)))
        }
        OperatorCommand::Manifests { namespace, image } => print_manifests(namespace, image),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            say(error.as_ref());
            Exit::System.into()
        }
    }
}

/// Prints the help that was asked for, or the error in the command line.
fn refuse(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if error.use_stderr() {
        text.lines().for_each(stream::say);
        return Exit::Usage.into();
    }
    match stream::print_lines(&text) {
        Ok(()) => Exit::Done.into(),
        Err(_) => Exit::System.into(),
    }
}

fn print_manifests(namespace: String, image: String) -> Result<Exit, Box<dyn Error>> {
    let objects = manifests::all(&manifests::Settings { namespace, image })?;
    stream::print_lines(&yaml::documents(&objects))?;
    Ok(Exit::Done)
}

#[tokio::main(flavor = "current_thread")]
async fn run(
    namespace: &str,
    name: Option<String>,
    listen: Option<SocketAddr>,
) -> Result<Exit, Box<dyn Error>> {
    let counts = Arc::new(OperatorCounts::default());
    let Some(address) = listen else { return act(namespace, name, counts).await };
    let listener = health::listen(address).await?;
    tokio::select! {
        ended = act(namespace, name, Arc::clone(&counts)) => ended,
        never = health::serve(listener, counts) => match never {},
    }
}

/// Waits for the lease, and acts until the end is asked for.
async fn act(
    namespace: &str,
    name: Option<String>,
    counts: Arc<OperatorCounts>,
) -> Result<Exit, Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut asked = std::pin::pin!(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    let us = name.unwrap_or_else(|| format!("process-{}", std::process::id()));
    let client = Client::try_default().await?;
    let mut election = Election::new(client.clone(), namespace, us.clone());
    stream::say(format_args!("waiting for the lease `{}` in `{namespace}` as `{us}`", election::NAME));
    tokio::select! {
        () = election.win(|error| say(&error)) => {}
        () = &mut asked => return Ok(Exit::Done),
    }
    stream::say("holding the lease, and reconciling");
    counts.leads.store(1, Ordering::Relaxed);
    // The loss of the lease is checked first, because an operator without the lease must not act.
    tokio::select! {
        biased;
        () = election.keep() => {
            stream::say("the lease is lost; ending, so that a new start waits for it");
            return Ok(Exit::System);
        }
        () = &mut asked => {}
        ended = reconcile::run(client, us, namespace.to_owned(), counts) => ended?,
    }
    election.release().await?;
    stream::say("the lease is released");
    Ok(Exit::Done)
}
