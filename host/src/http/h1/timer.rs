//! What a connection waits for besides its socket, made cheap for the case that it does not happen:
//! one timer for all deadlines, one look at the drain, one rendering of the date a second.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, Sleep, sleep_until};

/// The connection's one timer. It is moved only to fire earlier; where it fires too early because
/// the deadline has moved on, it is set again then: one registration in an idle timeout, not two in
/// every request.
#[derive(Debug, Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Ready when `deadline` has passed; else the task is woken then, or earlier.
    pub(super) fn poll_at(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// Knows whether the drain has begun without asking the drain's lock, which all connections of all
/// cores share, more than once.
pub(super) struct DrainWatch<'a> {
    draining: Pin<&'a mut (dyn Future<Output = ()> + Send + 'a)>,
    signal: Option<Arc<Signal>>,
}

struct Signal {
    raised: AtomicBool,
    task: Waker,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raised.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl<'a> DrainWatch<'a> {
    pub(super) fn new(draining: Pin<&'a mut (dyn Future<Output = ()> + Send + 'a)>) -> Self {
        Self { draining, signal: None }
    }

    /// Whether the drain has begun; if not, the task is woken when it does.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(signal) = &self.signal {
            if signal.raised.load(Ordering::Acquire) {
                return true;
            }
            if signal.task.will_wake(cx.waker()) {
                return false;
            }
        }
        let raised = AtomicBool::new(false);
        let signal = Arc::new(Signal { raised, task: cx.waker().clone() });
        let waker = Waker::from(Arc::clone(&signal));
        if self.draining.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            // Never polled again: from now on the flag answers.
            signal.raised.store(true, Ordering::Release);
        }
        let raised = signal.raised.load(Ordering::Acquire);
        self.signal = Some(signal);
        raised
    }
}

thread_local! {
    // A cache only: every core would render the same 29 bytes for every response.
    static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// Appends the value of `Date` for now (RFC 9110 §6.6.1).
pub(super) fn write_date(out: &mut Vec<u8>) {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(rendered_for, text)| {
        if *rendered_for != seconds || text.is_empty() {
            *rendered_for = seconds;
            *text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        }
        out.extend_from_slice(text.as_bytes());
    });
}
