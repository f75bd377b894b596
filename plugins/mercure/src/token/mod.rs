//! Tokens: signed as their key demands, in time, for this hub, from whom it trusts.
//!
//! Two kinds: access tokens of Mercure 1.0 (RFC 9068, `typ: at+jwt`), and what clients of Mercure 0.x
//! present, a JWT of any other type with a claim `mercure`. A token is of one kind or the other and has
//! the rights of that kind only. Why one is refused is not told (§ Error Responses of Mercure 1.0).

pub(crate) mod key;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use self::key::{Algorithm, Key};

/// Bytes of a token, at the most.
pub(crate) const MAX_TOKEN: usize = 16 << 10;

/// What a hub asks of tokens.
#[derive(Clone, Debug)]
pub(crate) struct Verifier {
    pub(crate) keys: Vec<Key>,
    /// This hub's names, one of which is in the audience; empty: the URL that it is asked by.
    pub(crate) audiences: Vec<String>,
    /// Empty: it does not matter.
    pub(crate) issuers: Vec<String>,
    /// Whether those of 0.x are taken.
    pub(crate) compatible: bool,
}

/// It is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

/// A verified token's content.
#[derive(Debug)]
pub(crate) struct Token {
    /// Seconds since 1970.
    pub(crate) expires: Option<f64>,
    pub(crate) rights: Rights,
}

/// What a token says of topics, as it says it.
#[derive(Debug)]
pub(crate) enum Rights {
    /// `authorization_details`.
    Details(Option<Value>),
    /// The claim `mercure`.
    Legacy(LegacyClaim),
}

/// The claim `mercure` of 0.x.
#[derive(Debug, Deserialize)]
pub(crate) struct LegacyClaim {
    #[serde(default)]
    pub(crate) publish: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) subscribe: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) payload: Option<Value>,
}

/// RFC 7515 §4.1. `jwk`, `jku`, `x5u` and the like are not looked at: a token brings no key.
#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    crit: Option<Value>,
}

/// RFC 7519 §4.1, RFC 9068 §2.2, RFC 9396 §9.
#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
    nbf: Option<f64>,
    iss: Option<String>,
    aud: Option<Audience>,
    authorization_details: Option<Value>,
    mercure: Option<LegacyClaim>,
    /// Takes precedence: some issuers allow only claims with a name of this form.
    #[serde(rename = "https://mercure.rocks/")]
    namespaced: Option<LegacyClaim>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Verifier {
    /// Reads a token at `now`, in seconds since 1970, that was sent to the hub of the URL `hub`.
    ///
    /// # Errors
    /// It is refused, whatever the reason.
    pub(crate) fn verify(&self, token: &str, hub: &str, now: f64) -> Result<Token, Invalid> {
        if token.len() > MAX_TOKEN {
            return Err(Invalid);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Invalid)?;
        let (header, claims) = message.split_once('.').ok_or(Invalid)?;
        let header: Header = json(header)?;
        // RFC 7515 §4.1.11: whoever does not understand what it lists refuses; we understand none.
        if header.crit.is_some() {
            return Err(Invalid);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Invalid)?;
        if !self.is_signed(&header, message.as_bytes(), &signature) {
            return Err(Invalid);
        }
        let claims: Claims = json(claims)?;
        if claims.exp.is_some_and(|exp| exp <= now) || claims.nbf.is_some_and(|nbf| nbf > now) {
            return Err(Invalid);
        }
        if header.typ.as_deref().is_some_and(is_access_token) {
            self.access_token(claims, hub)
        } else if self.compatible {
            self.legacy(claims, hub)
        } else {
            Err(Invalid)
        }
    }

    fn is_signed(&self, header: &Header, message: &[u8], signature: &[u8]) -> bool {
        let Some(algorithm) = Algorithm::named(&header.alg) else { return false };
        self.keys
            .iter()
            .filter(|key| key.algorithm == algorithm)
            // The id chooses among the keys that there are; one without an id is for all.
            .filter(|key| match (&key.id, &header.kid) {
                (Some(own), Some(asked)) => own == asked,
                _ => true,
            })
            .any(|key| key.verify(message, signature))
    }

    /// § Token Validation of 1.0: it ends at some time and is for this hub.
    fn access_token(&self, claims: Claims, hub: &str) -> Result<Token, Invalid> {
        let expires = claims.exp.ok_or(Invalid)?;
        let audience = claims.aud.as_ref().ok_or(Invalid)?;
        if !self.is_ours(audience, hub) || !self.is_trusted(claims.iss.as_deref()) {
            return Err(Invalid);
        }
        let rights = Rights::Details(claims.authorization_details);
        Ok(Token { expires: Some(expires), rights })
    }

    /// 0.x demanded neither audience nor issuer nor an end; what a token has of them counts all the same.
    fn legacy(&self, claims: Claims, hub: &str) -> Result<Token, Invalid> {
        let elsewhere = claims.aud.as_ref().is_some_and(|audience| !self.is_ours(audience, hub));
        if elsewhere || (claims.iss.is_some() && !self.is_trusted(claims.iss.as_deref())) {
            return Err(Invalid);
        }
        let claim = claims.namespaced.or(claims.mercure).ok_or(Invalid)?;
        Ok(Token { expires: claims.exp, rights: Rights::Legacy(claim) })
    }

    fn is_ours(&self, audience: &Audience, hub: &str) -> bool {
        let is_ours = |name: &String| {
            self.audiences.contains(name) || (self.audiences.is_empty() && name == hub)
        };
        match audience {
            Audience::One(name) => is_ours(name),
            Audience::Many(names) => names.iter().any(is_ours),
        }
    }

    fn is_trusted(&self, issuer: Option<&str>) -> bool {
        self.issuers.is_empty()
            || issuer.is_some_and(|issuer| self.issuers.iter().any(|trusted| trusted == issuer))
    }
}

/// RFC 7515 §4.1.9 and RFC 9068 §4: the type, with `application/` left out or not, in any case.
fn is_access_token(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    kind.strip_prefix("application/").unwrap_or(&kind) == "at+jwt"
}

fn json<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, Invalid> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Invalid)?;
    serde_json::from_slice(&bytes).map_err(|_| Invalid)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
