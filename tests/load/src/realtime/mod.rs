//! What the host holds for plugins, beside servers that do nothing else: memory of idle event streams,
//! fan-out, the time from one publication to its receipt.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

mod idle;
mod peers;
mod subscribers;

use self::peers::Peer;
use self::subscribers::{Pace, Subscribers};
use crate::report::{figure, median, quantile, say};
use crate::{Options, machine, scenarios};

/// What of it.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Ten thousand event streams that get nothing, over HTTP/1.1.
    IdleStreams,
    /// Event streams and WebSockets with TLS, and over HTTP/2.
    IdleOthers,
    /// One topic with nine thousand subscribers.
    FanOut,
    /// One publication, one subscriber.
    Latency,
    /// Ten thousand WebSockets that get nothing, over HTTP/1.1.
    IdleSockets,
    /// A thousand WebSockets, each of which hears what any says.
    Chat,
}

/// Subscribers of the one topic.
const FAN_OUT: usize = 9_000;
/// Events that are published as fast as they are taken; the history keeps them.
const SATURATING: usize = 100;
/// Events that are published one by one, and how far apart.
const PACED: usize = 40;
const PERIOD: Duration = Duration::from_millis(150);
/// Events of one request.
const TOGETHER: usize = 50;
/// Publications to one subscriber.
const PINGS: usize = 3_000;
/// WebSockets in one room, messages that are said there, and how many of them at once.
const ROOM: usize = 1_000;
const MESSAGES: usize = 200;
const AT_ONCE: usize = 16;
/// Bytes of an event's data.
const BYTES: usize = 64;

/// Measures all of `options.parts`.
pub(crate) fn realtime(options: &Options) -> Result<()> {
    machine::keep_to(scenarios::places(options).1)?;
    machine::allow_files();
    let parts = match &options.parts[..] {
        [] => Part::value_variants(),
        some => some,
    };
    let (others, missing) = Peer::others(options);
    for line in missing {
        say(&line);
    }
    let mut peers = vec![Peer::wharf(options)?];
    peers.extend(others);
    for part in parts {
        match part {
            Part::IdleStreams => idle::streams(&peers)?,
            Part::IdleOthers => idle::others(options)?,
            Part::FanOut => fan_out(options, &peers)?,
            Part::Latency => latency(options, &peers)?,
            Part::IdleSockets => idle::sockets(&peers)?,
            Part::Chat => chat(options, &peers)?,
        }
    }
    Ok(())
}

/// What a measurement gave, one value a round.
#[derive(Default)]
struct Series(Vec<f64>);

impl Series {
    fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Median and spread.
    fn told(&self) -> String {
        let values = || self.0.iter().copied();
        let (least, most) = (quantile(values(), 0.0), quantile(values(), 1.0));
        format!("{:.0} [{least:.0} .. {most:.0}]", median(values()))
    }
}

/// One topic, thousands of subscribers: what a core delivers, and how late.
fn fan_out(options: &Options, peers: &[Peer]) -> Result<()> {
    say(&format!("\none topic, {FAN_OUT} event streams, events of {BYTES} bytes"));
    each(peers, |peer| {
        let mut subscribers = peer.subscribers(FAN_OUT)?;
        let request = |data: &str| peer.publication(data);
        let together = |data: &str| peer.publications(data, TOGETHER).unwrap_or_default();
        let batches = peer.publications("", 2).is_some();
        let [mut paced, mut p50, mut p99, mut most] = [const { Series(Vec::new()) }; 4];
        let [mut core, mut second, mut batch] = [const { Series(Vec::new()) }; 3];
        subscribers.fan_out(3, BYTES, Pace::Saturating, &request, 3)?;
        for _ in 0..options.rounds {
            let pace = Pace::Every(PERIOD);
            let (cpu, _) =
                measured(peer, || subscribers.fan_out(PACED, BYTES, pace, &request, PACED))?;
            let late = || subscribers.latencies_us.iter().map(|us| us / 1000.0);
            p50.push(quantile(late(), 0.5));
            p99.push(quantile(late(), 0.99));
            most.push(quantile(late(), 1.0));
            paced.push((FAN_OUT * PACED) as f64 / cpu);

            let (cpu, took) = measured(peer, || {
                subscribers.fan_out(SATURATING, BYTES, Pace::Saturating, &request, SATURATING)
            })?;
            core.push((FAN_OUT * SATURATING) as f64 / cpu);
            second.push((FAN_OUT * SATURATING) as f64 / took.as_secs_f64());
            if batches {
                let (cpu, _) = measured(peer, || {
                    subscribers.fan_out(1, BYTES, Pace::Saturating, &together, TOGETHER)
                })?;
                batch.push((FAN_OUT * TOGETHER) as f64 / cpu);
            }
        }
        let name = peer.name;
        figure(
            &format!("{name}: one event in {PERIOD:?}, deliveries a second and core"),
            &paced.told(),
        );
        figure(&format!("{name}:   from publication to receipt, ms, p50"), &p50.told());
        figure(&format!("{name}:   p99"), &p99.told());
        figure(&format!("{name}:   the last"), &most.told());
        figure(&format!("{name}: as fast as it takes them, a second and core"), &core.told());
        figure(&format!("{name}:   a second"), &second.told());
        if batches {
            figure(&format!("{name}: {TOGETHER} in one request, a second and core"), &batch.told());
        }
        Ok(())
    })
}

/// Measures one after the other; what cannot be is said, and fails only for wharf.
fn each(peers: &[Peer], measure: impl Fn(&Peer) -> Result<()>) -> Result<()> {
    for peer in peers {
        match measure(peer) {
            Err(error) if peer.name != peers[0].name => {
                say(&format!("{}: not measured: {error:#}", peer.name));
            }
            measured => measured.context(peer.name)?,
        }
    }
    Ok(())
}

/// Server seconds of processor time for something, and how long it took.
fn measured(peer: &Peer, act: impl FnOnce() -> Result<Duration>) -> Result<(f64, Duration)> {
    let before = peer.server.cpu_us()?;
    let took = act()?;
    // What it does after the last delivery belongs to it.
    std::thread::sleep(Duration::from_millis(100));
    let used = peer.server.cpu_us()? - before;
    Ok((used as f64 / 1e6, took))
}

/// One publication to one subscriber.
fn latency(options: &Options, peers: &[Peer]) -> Result<()> {
    say(&format!("\none publication to one event stream, {PINGS} times, microseconds"));
    each(peers, |peer| {
        let [mut p50, mut p99] = [const { Series(Vec::new()) }; 2];
        for _ in 0..options.rounds {
            let mut subscribers = peer.subscribers(1)?;
            let request = |data: &str| peer.publication(data);
            subscribers.ping(PINGS / 10, BYTES, &request)?;
            subscribers.ping(PINGS, BYTES, &request)?;
            let late = || subscribers.latencies_us.iter().copied();
            p50.push(quantile(late(), 0.5));
            p99.push(quantile(late(), 0.99));
        }
        figure(&format!("{}: p50", peer.name), &p50.told());
        figure(&format!("{}: p99", peer.name), &p99.told());
        Ok(())
    })
}

/// A room in which each hears what any says.
fn chat(options: &Options, peers: &[Peer]) -> Result<()> {
    say(&format!("\na room of {ROOM} WebSockets, messages of {BYTES} bytes"));
    each(peers, |peer| {
        let Some(upgrade) = peer.upgrade() else { return Ok(()) };
        let mut room = Subscribers::open(&peer.server.http, &upgrade, ROOM)?;
        let [mut p50, mut p99, mut single, mut several] = [const { Series(Vec::new()) }; 4];
        room.chat(AT_ONCE, BYTES, 1)?;
        for _ in 0..options.rounds {
            let (cpu, _) = measured(peer, || room.chat(MESSAGES, BYTES, 1))?;
            let late = || room.latencies_us.iter().copied();
            p50.push(quantile(late(), 0.5));
            p99.push(quantile(late(), 0.99));
            single.push((ROOM * MESSAGES) as f64 / cpu);
            let (cpu, _) = measured(peer, || room.chat(MESSAGES, BYTES, AT_ONCE))?;
            several.push((ROOM * MESSAGES) as f64 / cpu);
        }
        let name = peer.name;
        figure(&format!("{name}: one at a time, deliveries a second and core"), &single.told());
        figure(&format!("{name}:   from saying to hearing, us, p50"), &p50.told());
        figure(&format!("{name}:   p99"), &p99.told());
        figure(&format!("{name}: {AT_ONCE} at once, a second and core"), &several.told());
        Ok(())
    })
}

/// Share of a core that a server uses while its clients rest, in per cent.
fn resting(peer: &Peer, subscribers: &mut Subscribers, time: Duration) -> Result<f64> {
    let before = peer.server.cpu_us()?;
    let begun = Instant::now();
    subscribers.rest(time)?;
    let used = peer.server.cpu_us()? - before;
    ensure!(begun.elapsed() >= time, "it did not rest");
    Ok(used as f64 / begun.elapsed().as_micros() as f64 * 100.0)
}
