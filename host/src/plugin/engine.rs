//! The wasmtime engines and their clock.
//!
//! Three engines live in one process, because what they trade is fixed per engine: `reuse` (signals
//! and guard pages, fastest code), `isolated` (explicit bounds checks; a pooled slot then never
//! changes protection, which makes a fresh instance per request 2.6 times cheaper on two cores) and
//! `baseline` (Winch, for the first milliseconds after a change). One thread ticks the epochs of all
//! three, only while guests run.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use wasmtime::{
    Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig,
    Strategy,
};

use super::manifest::Mode;

/// Time between two epochs while guests run: the resolution at which a spinning guest is noticed.
pub const TICK: Duration = Duration::from_millis(1);
/// Ticks without a guest call before the ticker slows down: a schedule that is called ten times a second
/// does not keep it awake.
const QUIET_TICKS: u32 = 16;
/// Time between two epochs while nothing runs. A call that starts wakes the ticker.
const QUIET_TICK: Duration = Duration::from_millis(250);

/// Component instances that one pool can hold at once.
const POOL_INSTANCES: u32 = 2_000;
/// Linear memories, tables and core instances in a pool: a component made from another language
/// carries adapters, so it has several of each.
const POOL_CORE_INSTANCES: u32 = 12_000;
/// Tables in a pool.
const POOL_TABLES: u32 = 8_000;
/// Entries of one table; CPython alone has over 20,000 functions.
const TABLE_ELEMENTS: usize = 100_000;
/// Memory of a pooled slot that stays mapped between two instances, where the kernel can tell dirty
/// pages (`PAGEMAP_SCAN`, Linux 6.7); without that the copy costs more than it saves.
const KEEP_RESIDENT: usize = 2 << 20;
/// Table bytes of a pooled slot that stay mapped.
const TABLE_KEEP_RESIDENT: usize = 64 << 10;

/// How code is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Winch: milliseconds to compile, about half the speed.
    Baseline,
    /// Cranelift.
    Optimised,
}

impl Tier {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Optimised => "optimised",
        }
    }
}

/// Which engine a program belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// Optimised code, pooled, guard pages.
    Reuse,
    /// Optimised code, pooled, explicit bounds checks.
    Isolated,
    /// Winch code, not pooled: it lives until the optimised code is there.
    Baseline,
}

impl EngineKind {
    /// The engine for code of `tier` run in `mode`.
    pub fn of(mode: Mode, tier: Tier) -> Self {
        match (tier, mode) {
            (Tier::Baseline, _) => Self::Baseline,
            (Tier::Optimised, Mode::Reuse) => Self::Reuse,
            (Tier::Optimised, Mode::Isolated) => Self::Isolated,
        }
    }

    /// Name in file names and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Reuse => "reuse",
            Self::Isolated => "isolated",
            Self::Baseline => "baseline",
        }
    }
}

/// The engines of the process.
pub struct Engines {
    reuse: Engine,
    isolated: Engine,
    baseline: Engine,
    clock: Arc<Clock>,
    ticker: Option<JoinHandle<()>>,
}

impl Engines {
    /// Builds the three engines and starts their ticker.
    ///
    /// # Errors
    /// When the machine cannot run wasmtime at all.
    pub fn new() -> wasmtime::Result<Self> {
        let reuse = pooled(|_| {})?;
        let isolated = pooled(|config| {
            config.signals_based_traps(false);
            config.memory_guard_size(0);
            config.guard_before_linear_memory(false);
        })?;
        let mut config = common();
        config.strategy(Strategy::Winch);
        let baseline = Engine::new(&config)?;

        let clock = Arc::new(Clock::default());
        let engines = [reuse.weak(), isolated.weak(), baseline.weak()];
        let ticker = std::thread::Builder::new()
            .name("wharf-epoch".into())
            .spawn({
                let clock = Arc::clone(&clock);
                move || clock.run(&engines)
            })
            .map_err(wasmtime::Error::from)?;
        clock.ticker.get_or_init(|| ticker.thread().clone());
        Ok(Self { reuse, isolated, baseline, clock, ticker: Some(ticker) })
    }

    /// One engine.
    pub fn engine(&self, kind: EngineKind) -> &Engine {
        match kind {
            EngineKind::Reuse => &self.reuse,
            EngineKind::Isolated => &self.isolated,
            EngineKind::Baseline => &self.baseline,
        }
    }

    /// The clock that guests' time is measured by.
    pub fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        self.clock.stop.store(true, Ordering::Relaxed);
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            let _panicked = ticker.join();
        }
    }
}

impl fmt::Debug for Engines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engines").finish_non_exhaustive()
    }
}

/// Ticks the epochs while guests run.
#[derive(Debug, Default)]
pub struct Clock {
    active: AtomicBool,
    quiet: AtomicBool,
    stop: AtomicBool,
    ticker: std::sync::OnceLock<Thread>,
}

impl Clock {
    /// Says that a guest is about to run. Cheap: one load where guests run all the time.
    pub fn touch(&self) {
        if !self.active.load(Ordering::Relaxed) {
            self.active.store(true, Ordering::Relaxed);
            // The ticker may miss this if it is just falling quiet; it looks again after one quiet
            // tick, so a spinning guest is noticed that much later at worst.
            if self.quiet.swap(false, Ordering::Relaxed)
                && let Some(ticker) = self.ticker.get()
            {
                ticker.unpark();
            }
        }
    }

    fn run(&self, engines: &[EngineWeak]) {
        let mut quiet_ticks = 0;
        while !self.stop.load(Ordering::Relaxed) {
            quiet_ticks =
                if self.active.swap(false, Ordering::Relaxed) { 0 } else { quiet_ticks + 1 };
            if quiet_ticks < QUIET_TICKS {
                std::thread::sleep(TICK);
            } else {
                self.quiet.store(true, Ordering::Relaxed);
                std::thread::park_timeout(QUIET_TICK);
                self.quiet.store(false, Ordering::Relaxed);
            }
            for engine in engines.iter().filter_map(EngineWeak::upgrade) {
                engine.increment_epoch();
            }
        }
    }
}

fn common() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.wasm_component_model_async(true);
    // Epochs, never fuel: 3 % against 5 %, and they interrupt host time too.
    config.epoch_interruption(true);
    config.memory_init_cow(true);
    config
}

fn pooled(adjust: impl Fn(&mut Config)) -> wasmtime::Result<Engine> {
    // Address space may be scarce (containers, small virtual address widths): fewer slots, then none.
    for share in [1, 8] {
        let mut config = common();
        adjust(&mut config);
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(POOL_INSTANCES / share)
            .total_core_instances(POOL_CORE_INSTANCES / share)
            .total_memories(POOL_INSTANCES / share)
            .total_tables(POOL_TABLES / share)
            .total_stacks(POOL_CORE_INSTANCES / share)
            .max_memories_per_component(16)
            .table_elements(TABLE_ELEMENTS)
            .max_core_instance_size(4 << 20)
            .max_component_instance_size(4 << 20)
            .table_keep_resident(TABLE_KEEP_RESIDENT)
            .pagemap_scan(Enabled::Auto);
        if pagemap_scan_is_likely() {
            pool.linear_memory_keep_resident(KEEP_RESIDENT);
        }
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        match Engine::new(&config) {
            Ok(engine) => return Ok(engine),
            Err(error) => {
                tracing::warn!(slots = POOL_INSTANCES / share, %error, "cannot reserve a pool");
            }
        }
    }
    let mut config = common();
    adjust(&mut config);
    Engine::new(&config)
}

/// Whether the kernel has `PAGEMAP_SCAN` (Linux 6.7). wasmtime probes it itself; this only decides
/// how much of a slot is worth keeping.
fn pagemap_scan_is_likely() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (6, 7))
}
