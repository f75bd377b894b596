//! Reply tokens: how a plugin's ordinary response stands for one that the host holds.
//!
//! A host function that makes a response (`files.reply`, for example) keeps it with the exchange and
//! gives the guest a token. The guest answers with a response that names the token in
//! `wharf-reply`; the host takes that response's status and fields and puts what it holds in the
//! place of the body. The guest's instance is then free.

use std::fmt;

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, Response, response};
use parking_lot::Mutex;

use super::exchange::Token;
use crate::http::body::ResponseBody;

/// The field that names a reply.
pub const REPLY_FIELD: HeaderName = HeaderName::from_static("wharf-reply");

/// Replies that one exchange may have made and not used.
pub const MAX_REPLIES: usize = 16;

/// A response's body that the host holds.
pub trait Held: Send {
    /// The response to send for the head that the plugin answered with. Status and fields are the
    /// plugin's wish; what the reply must say itself (`content-range`, for example) it says.
    fn respond(self: Box<Self>, head: response::Parts) -> Response<ResponseBody>;

    /// Whether it is the switch to another protocol, whose response may be a 101.
    fn switches(&self) -> bool {
        false
    }

    /// Whether it may last long and cost next to nothing (a stream, a socket, a poll): such a one has
    /// a bound of its own and takes no place from requests.
    fn is_held(&self) -> bool {
        false
    }

    /// Waits until it can respond. Asked only of what is held.
    fn ready(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// The replies of one exchange. A token is good for this exchange only, once, and as long as it lasts.
#[derive(Default)]
pub struct Replies(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    replies: Vec<(Token, Box<dyn Held>)>,
    closed: bool,
}

/// What a response's `wharf-reply` came to.
pub enum Named {
    /// There is none: the response is the plugin's own.
    Nothing,
    /// It named one.
    Held(Box<dyn Held>),
    /// It named none that this exchange has, or several.
    Unknown,
}

/// [`MAX_REPLIES`] are waiting to be used, or the exchange has been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyReplies;

impl Replies {
    /// Keeps a reply until a response names it or the exchange ends.
    ///
    /// # Errors
    /// There are too many, or none can be used any more.
    pub fn keep(&self, held: Box<dyn Held>) -> Result<Token, TooManyReplies> {
        let mut kept = self.0.lock();
        if kept.closed || kept.replies.len() == MAX_REPLIES {
            return Err(TooManyReplies);
        }
        let token = Token::random();
        kept.replies.push((token.clone(), held));
        Ok(token)
    }

    /// Takes the reply that a response names. The field never goes on.
    pub fn take(&self, headers: &mut HeaderMap) -> Named {
        let mut named = headers.get_all(REPLY_FIELD).iter();
        let Some(token) = named.next() else { return Named::Nothing };
        let alone = named.next().is_none();
        let mut kept = self.0.lock();
        let found = kept.replies.iter().position(|(known, _)| alone && known.is(token.as_bytes()));
        let held = found.map(|index| kept.replies.swap_remove(index).1);
        drop(kept);
        headers.remove(REPLY_FIELD);
        held.map_or(Named::Unknown, Named::Held)
    }

    /// Drops what was not used, and takes no more: a guest may keep its exchange for long, and each
    /// reply may hold an open file.
    pub fn close(&self) {
        let unused = {
            let mut kept = self.0.lock();
            kept.closed = true;
            std::mem::take(&mut kept.replies)
        };
        drop(unused);
    }
}

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Replies").field(&self.0.lock().replies.len()).finish()
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Held(_) => "Held",
            Self::Unknown => "Unknown",
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    struct Text(&'static str);

    impl Held for Text {
        fn respond(self: Box<Self>, head: response::Parts) -> Response<ResponseBody> {
            Response::from_parts(head, ResponseBody::full(self.0))
        }
    }

    fn naming(tokens: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for token in tokens {
            headers.append(REPLY_FIELD, HeaderValue::from_bytes(token).unwrap());
        }
        headers
    }

    #[test]
    fn a_token_is_good_once() {
        let replies = Replies::default();
        let token = replies.keep(Box::new(Text("x"))).unwrap();
        let mut headers = naming(&[token.as_bytes()]);

        assert!(matches!(replies.take(&mut headers), Named::Held(_)));
        assert!(headers.is_empty());
        assert!(matches!(replies.take(&mut naming(&[token.as_bytes()])), Named::Unknown));
    }

    #[test]
    fn foreign_forged_and_doubled_tokens_are_nothing() {
        let (replies, others) = (Replies::default(), Replies::default());
        let foreign = others.keep(Box::new(Text("x"))).unwrap();
        let own = replies.keep(Box::new(Text("y"))).unwrap();

        for tokens in [
            vec![foreign.as_bytes()],
            vec![b"".as_slice()],
            vec![b"0123456789abcdef0123456789abcdef".as_slice()],
            vec![&own.as_bytes()[1..]],
            vec![own.as_bytes(), own.as_bytes()],
        ] {
            let mut headers = naming(&tokens);

            assert!(matches!(replies.take(&mut headers), Named::Unknown), "{tokens:?}");
            assert!(!headers.contains_key(REPLY_FIELD));
        }
        assert!(matches!(replies.take(&mut HeaderMap::new()), Named::Nothing));
        assert!(matches!(replies.take(&mut naming(&[own.as_bytes()])), Named::Held(_)));
    }

    #[test]
    fn an_answered_exchange_keeps_no_replies() {
        let replies = Replies::default();
        let token = replies.keep(Box::new(Text("x"))).unwrap();

        replies.close();

        assert!(matches!(replies.take(&mut naming(&[token.as_bytes()])), Named::Unknown));
        assert!(replies.keep(Box::new(Text("x"))).is_err());
    }

    #[test]
    fn unused_replies_are_bounded() {
        let replies = Replies::default();
        for _ in 0..MAX_REPLIES {
            replies.keep(Box::new(Text("x"))).unwrap();
        }

        assert_eq!(replies.keep(Box::new(Text("x"))).unwrap_err(), TooManyReplies);
    }

    #[test]
    fn nothing_is_kept_once_the_response_has_begun() {
        let replies = Replies::default();
        let unused = replies.keep(Box::new(Text("x"))).unwrap();

        replies.close();

        assert!(matches!(replies.take(&mut naming(&[unused.as_bytes()])), Named::Unknown));
        assert_eq!(replies.keep(Box::new(Text("x"))).unwrap_err(), TooManyReplies);
    }
}
