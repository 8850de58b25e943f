//! What `packaging/try.sh` needs besides HAProxy and hareload: a free port, a stranger on a port, and a load that
//! counts every connection.
//!
//! `try_load free N` prints N free ports. `try_load stranger` listens on a free port of 127.0.0.1 by itself, prints the
//! port, and ends with its standard input. `try_load load ADDRESS RATE SECONDS` opens RATE new connections a second;
//! for each line on its standard input it prints `<lost> <all>` so far; it ends with its standard input, or after that
//! many seconds, and then prints the same line for the last time, and each of the first lost ones on standard error.

use std::io::{BufRead as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use hareload_testkit::anyhow::{Context as _, Result, bail};
use hareload_testkit::load::{Load, LoadSpec};
use hareload_testkit::report::Report;
use hareload_testkit::sockets::free_port;

/// How many connections may be under way at once.
const WORKERS: usize = 16;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["free", count] => free(count.parse()?),
        ["stranger"] => stranger(),
        ["load", address, rate, seconds] => {
            let mut spec = LoadSpec::to(vec![address.parse()?]);
            spec.workers = WORKERS;
            spec.rate = Some(rate.parse()?);
            load(spec, Duration::from_secs(seconds.parse()?))
        }
        _ => bail!("try_load free N | stranger | load ADDRESS RATE SECONDS"),
    }
}

fn free(count: usize) -> Result<()> {
    let mut ports: Vec<u16> = Vec::new();
    while ports.len() < count {
        let port = free_port()?;
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    for port in ports {
        println!("{port}");
    }
    Ok(())
}

fn stranger() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port to listen on")?;
    println!("{}", listener.local_addr()?.port());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

fn load(spec: LoadSpec, limit: Duration) -> Result<()> {
    let until = Instant::now() + limit;
    let (asks, asked) = mpsc::channel();
    let load = Load::start(spec)?;
    // Ends with the process if standard input outlives the limit.
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() || asks.send(()).is_err() {
                return;
            }
        }
    });
    loop {
        match asked.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(()) => print(&load.report_so_far()?)?,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                eprintln!("the load ends: it was to last {} s at most", limit.as_secs());
                break;
            }
        }
    }
    let report = load.stop()?;
    for failure in report.failures.iter().take(10) {
        eprintln!("{failure}");
    }
    print(&report)
}

fn print(report: &Report) -> Result<()> {
    let lost = report.losses();
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{lost} {}", report.ok + lost)?;
    Ok(stdout.flush()?)
}
