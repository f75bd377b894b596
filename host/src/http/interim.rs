//! What goes to the client ahead of the final head: interim responses (RFC 9110 §15.2) and promises
//! of pushes (RFC 9113 §8.4), on their way from whoever answers a request to its connection.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use http::header::LINK;
use http::{HeaderMap, HeaderValue, StatusCode};
use parking_lot::Mutex;

use super::push::{MAX_PUSHES, Promise, PushSource};

/// Interim heads that one response may have.
pub const MAX_INTERIM: usize = 8;
/// Bytes of fields in one of them.
pub const MAX_INTERIM_BYTES: usize = 8 * 1024;

/// Why an interim head or a promise is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsent {
    /// The client is not known to cope with interim responses (HTTP/1.1; RFC 8297 §3), or takes no
    /// pushes.
    #[error("this client may not cope with it")]
    Unsupported,
    /// The final head is on its way, or the exchange is over.
    #[error("the response has begun")]
    TooLate,
    /// Not a field value, or none at all; not a request that may be promised.
    #[error("not a value of a Link field, or not a request that may be promised")]
    Invalid,
    /// More than [`MAX_INTERIM`] heads or [`MAX_INTERIM_BYTES`]; more than [`MAX_PUSHES`], or than the
    /// connection has room for.
    #[error("too many")]
    TooMany,
}

/// The interim heads and promises of one exchange.
#[derive(Debug)]
pub struct Interim {
    state: Mutex<State>,
    /// What a pushed request is made from, where the client takes pushes.
    source: Option<PushSource>,
}

#[derive(Debug, Default)]
struct State {
    /// Why nothing more is taken.
    closed: Option<Unsent>,
    /// The final head is on its way.
    over: bool,
    taken: usize,
    queue: VecDeque<(StatusCode, HeaderMap)>,
    pushed: usize,
    promises: VecDeque<Promise>,
    waker: Option<Waker>,
}

impl Interim {
    /// For a client that copes with interim heads, or for one that does not.
    pub fn new(supported: bool) -> Self {
        let closed = (!supported).then_some(Unsent::Unsupported);
        Self { state: Mutex::new(State { closed, ..State::default() }), source: None }
    }

    /// For a client that copes with interim heads and takes pushes.
    pub(in crate::http) fn pushing(source: PushSource) -> Self {
        Self { source: Some(source), ..Self::new(true) }
    }

    /// Promises a request of the client's to itself, which is then answered on a stream of its own
    /// (RFC 9113 §8.4). `path` is the target as the client would ask for it.
    ///
    /// # Errors
    /// Nothing is pushed, and why.
    pub fn push<V: AsRef<[u8]>>(
        &self,
        method: &str,
        path: &str,
        fields: &[(String, V)],
    ) -> Result<(), Unsent> {
        let source = self.source.as_ref().ok_or(Unsent::Unsupported)?;
        let request = source.request(method, path, fields)?;
        let mut state = self.state.lock();
        if state.over {
            return Err(Unsent::TooLate);
        }
        if state.pushed == MAX_PUSHES {
            return Err(Unsent::TooMany);
        }
        let promise = source.promise(request)?;
        state.pushed += 1;
        state.promises.push_back(promise);
        state.wake();
        Ok(())
    }

    /// Sends `103 Early Hints` (RFC 8297) with these values of `Link`, as soon as the connection can.
    ///
    /// # Errors
    /// Nothing was sent, and why.
    pub fn hint<L: AsRef<[u8]>>(&self, links: &[L]) -> Result<(), Unsent> {
        let mut fields = HeaderMap::with_capacity(links.len());
        for link in links {
            let value = HeaderValue::from_bytes(link.as_ref()).map_err(|_| Unsent::Invalid)?;
            fields.append(LINK, value);
        }
        if fields.is_empty() {
            return Err(Unsent::Invalid);
        }
        if links.iter().map(|link| link.as_ref().len()).sum::<usize>() > MAX_INTERIM_BYTES {
            return Err(Unsent::TooMany);
        }
        self.send(StatusCode::EARLY_HINTS, fields)
    }

    /// Passes an interim response on that somebody else made, but 100 and 101, which concern its own
    /// connection. Fields of that connection are to be taken off before.
    ///
    /// # Errors
    /// Nothing was sent, and why.
    pub fn relay(&self, status: StatusCode, fields: HeaderMap) -> Result<(), Unsent> {
        if !status.is_informational()
            || matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS)
        {
            return Err(Unsent::Invalid);
        }
        let bytes = fields.iter().map(|(name, value)| name.as_str().len() + value.len());
        if bytes.sum::<usize>() > MAX_INTERIM_BYTES {
            return Err(Unsent::TooMany);
        }
        self.send(status, fields)
    }

    fn send(&self, status: StatusCode, fields: HeaderMap) -> Result<(), Unsent> {
        let mut state = self.state.lock();
        if let Some(why) = state.closed {
            return Err(why);
        }
        if state.taken == MAX_INTERIM {
            return Err(Unsent::TooMany);
        }
        state.taken += 1;
        state.queue.push_back((status, fields));
        state.wake();
        Ok(())
    }

    /// For a connection that pushes, after [`Self::poll_next`]: what is to be promised before the
    /// hints go out, so that no client asks for what it is about to get.
    pub(in crate::http) fn next_promise(&self) -> Option<Promise> {
        self.state.lock().promises.pop_front()
    }

    /// For the connection: the next head. Woken by promises too.
    pub(in crate::http) fn poll_next(&self, cx: &Context<'_>) -> Poll<(StatusCode, HeaderMap)> {
        let mut state = self.state.lock();
        if let Some(head) = state.queue.pop_front() {
            return Poll::Ready(head);
        }
        let takes_more = state.closed.is_none() || (self.source.is_some() && !state.over);
        if takes_more && !state.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// For the connection: the final head is next.
    pub(in crate::http) fn close(&self) {
        let mut state = self.state.lock();
        state.closed.get_or_insert(Unsent::TooLate);
        state.over = true;
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Products (and their first version that copes) that take an interim head over HTTP/1.1 for what it
/// is. Others may take it for the response, or fail; RFC 8297 §3 asks for caution.
const COPES_ON_H1: [(&str, u32); 5] =
    [("Chrome/", 103), ("Firefox/", 120), ("curl/", 7), ("node", 0), ("undici", 0)];

/// Whether an HTTP/1.1 client with this `User-Agent` is known to cope with an interim head.
pub(in crate::http) fn copes_on_h1(user_agent: Option<&HeaderValue>) -> bool {
    let Some(user_agent) = user_agent.and_then(|value| value.to_str().ok()) else { return false };
    COPES_ON_H1.iter().any(|(product, since)| {
        user_agent.split(' ').any(|word| {
            word.strip_prefix(product).is_some_and(|version| {
                let major = version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
                *since == 0 || major.parse::<u32>().is_ok_and(|major| major >= *since)
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRELOAD: &str = "</app.css>; rel=preload; as=style";

    fn poll(interim: &Interim) -> Option<HeaderMap> {
        match interim.poll_next(&Context::from_waker(Waker::noop())) {
            Poll::Ready((_, fields)) => Some(fields),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_others_sent_ahead_is_passed_on_with_its_status() {
        let interim = Interim::new(true);
        let fields = HeaderMap::from_iter([(LINK, HeaderValue::from_static(PRELOAD))]);

        for status in [100, 101, 200] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(interim.relay(status, fields.clone()), Err(Unsent::Invalid), "{status}");
        }
        assert_eq!(interim.relay(StatusCode::PROCESSING, fields.clone()), Ok(()));
        let next = interim.poll_next(&Context::from_waker(Waker::noop()));

        assert_eq!(next, Poll::Ready((StatusCode::PROCESSING, fields)));
    }

    #[test]
    fn hints_arrive_in_order_and_none_after_the_final_head() {
        let interim = Interim::new(true);

        assert_eq!(interim.hint(&[PRELOAD, "</app.js>; rel=preload"]), Ok(()));
        assert_eq!(interim.hint(&["</second>; rel=preload"]), Ok(()));
        let first = poll(&interim).unwrap();
        interim.close();

        assert_eq!(first.get_all(LINK).iter().count(), 2);
        assert_eq!(interim.hint(&[PRELOAD]), Err(Unsent::TooLate));
        assert_eq!(poll(&interim).unwrap()[LINK], "</second>; rel=preload");
        assert!(poll(&interim).is_none());
    }

    #[test]
    fn hints_are_bounded_and_checked() {
        let interim = Interim::new(true);

        assert_eq!(interim.hint::<&str>(&[]), Err(Unsent::Invalid));
        assert_eq!(interim.hint(&["</a>\r\nset-cookie: x"]), Err(Unsent::Invalid));
        assert_eq!(interim.hint(&["x".repeat(MAX_INTERIM_BYTES + 1)]), Err(Unsent::TooMany));
        for _ in 0..MAX_INTERIM {
            assert_eq!(interim.hint(&[PRELOAD]), Ok(()));
        }
        assert_eq!(interim.hint(&[PRELOAD]), Err(Unsent::TooMany));
        assert_eq!(Interim::new(false).hint(&[PRELOAD]), Err(Unsent::Unsupported));
    }

    #[test]
    fn only_clients_that_are_known_to_cope_get_hints_over_http_1() {
        let copes = |agent: &str| copes_on_h1(Some(&HeaderValue::from_str(agent).unwrap()));

        assert!(copes("curl/8.5.0"));
        assert!(copes(
            "Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari"
        ));
        assert!(!copes(
            "Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/90.0 Safari"
        ));
        assert!(!copes("python-requests/2.31"));
        assert!(!copes_on_h1(None));
    }
}
