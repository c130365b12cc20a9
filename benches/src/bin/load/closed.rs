//! The closed loop: what it counts, and when.
//!
//! Only requests that begin and end within the measured time count, so that neither warming up nor
//! stragglers colour the figures. One failed request ends the run: a rate that leaves errors out
//! says nothing.

use std::time::Duration;

use hdrhistogram::Histogram;
use meshraft::{CallError, Client, ReadLevel};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{Op, Outcome};

/// Keys that writes go to.
const KEYS_WRITTEN: u64 = 100_000;
/// Keys that are read; they are written first.
const KEYS_READ: u64 = 1_000;
const WARM_UP: Duration = Duration::from_millis(500);
/// Latencies are recorded in microseconds, up to a minute, to three digits.
const MICROS_MAX: u64 = 60_000_000;

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Concurrent clients.
    pub(crate) clients: usize,
    /// Length of a value.
    pub(crate) bytes: usize,
    /// What each request does.
    pub(crate) op: Op,
}

/// What was measured.
pub(crate) struct Measured {
    /// Latencies in microseconds.
    pub(crate) micros: Histogram<u64>,
    /// How long was measured.
    pub(crate) elapsed: Duration,
}

impl Measured {
    /// Requests per second.
    pub(crate) fn rate(&self) -> f64 {
        self.micros.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// A percentile in milliseconds.
    pub(crate) fn millis_at(&self, percentile: f64) -> f64 {
        self.micros.value_at_percentile(percentile) as f64 / 1_000.0
    }
}

/// Runs `load` for `length`, its clients spread over `connections`.
pub(crate) async fn measure(
    connections: &[Client],
    load: Load,
    length: Duration,
) -> Outcome<Measured> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + length;
    let mut tasks = JoinSet::new();
    for (number, client) in (0..load.clients).zip(connections.iter().cycle()) {
        tasks.spawn(one_client(client.clone(), load, number as u64, begin, end));
    }
    let mut micros = Histogram::new_with_max(MICROS_MAX, 3)?;
    while let Some(recorded) = tasks.join_next().await {
        micros.add(recorded??)?;
    }
    sleep_until(end).await;
    Ok(Measured { micros, elapsed: length })
}

/// Writes every key that is read.
pub(crate) async fn prepare(client: &Client, bytes: usize) -> Outcome<()> {
    let mut tasks = JoinSet::new();
    for number in 0..KEYS_READ {
        let (client, value) = (client.clone(), vec![b'v'; bytes]);
        tasks.spawn(async move { client.set(key(number), value).await });
    }
    while let Some(written) = tasks.join_next().await {
        written??;
    }
    Ok(())
}

fn key(number: u64) -> String {
    format!("key-{number:012}")
}

async fn one_client(
    client: Client,
    load: Load,
    number: u64,
    begin: Instant,
    end: Instant,
) -> Outcome<Histogram<u64>> {
    let mut micros = Histogram::new_with_max(MICROS_MAX, 3)?;
    let mut random = Random::new(number);
    let value = vec![b'v'; load.bytes];
    loop {
        let start = Instant::now();
        if start >= end {
            return Ok(micros);
        }
        let keys = if load.op == Op::Set { KEYS_WRITTEN } else { KEYS_READ };
        let key = key(random.next() % keys);
        request(&client, load.op, key, &value).await?;
        let stop = Instant::now();
        if start >= begin && stop <= end {
            let elapsed = u64::try_from((stop - start).as_micros()).unwrap_or(MICROS_MAX);
            micros.record(elapsed.clamp(1, MICROS_MAX))?;
        }
    }
}

async fn request(client: &Client, op: Op, key: String, value: &[u8]) -> Result<(), CallError> {
    match op {
        Op::Set => client.set(key, value.to_vec()).await.map(drop),
        Op::Get => client.get(key, ReadLevel::Linearizable).await.map(drop),
        Op::GetStale => client.get(key, ReadLevel::Stale).await.map(drop),
    }
}

/// Marsaglia's xorshift: the same keys in every run.
pub(crate) struct Random(u64);

impl Random {
    /// A sequence of its own for every seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
