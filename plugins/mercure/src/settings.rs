//! The settings, of `[config]` in the manifest. A hub whose settings are wrong answers nothing but 500.

use std::sync::LazyLock;
use std::time::Duration;

use url::Url;
use wharf_sdk::{Error, Request, config};

use crate::HUB;
use crate::credentials::origin;
use crate::token::Verifier;
use crate::token::key::{self, Algorithm, Key};

/// The secret that the documentation of Mercure shows everybody.
pub(crate) const DEMO_KEY: &str = "!ChangeThisMercureHubJWTSecretKey!";

/// How long a subscriber stays at the most, however long its token is good for.
const DEFAULT_LIFETIME: Duration = Duration::from_hours(1);

/// What the hub is told.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) publishers: Verifier,
    pub(crate) subscribers: Verifier,
    /// The hub's URL, where it is set.
    url: Option<Url>,
    pub(crate) issuers: Vec<String>,
    /// Who has no token may follow what is public.
    pub(crate) anonymous: bool,
    /// Mercure 0.x is spoken as well.
    pub(crate) compatible: bool,
    /// Tokens are taken from the query.
    pub(crate) query_tokens: bool,
    pub(crate) cors_origins: Origins,
    /// Where pages may publish from with the cookie, beside the hub's own origin.
    pub(crate) publish_origins: Vec<String>,
    pub(crate) lifetime: Duration,
    /// The key is the one that everybody knows.
    pub(crate) is_demo: bool,
}

/// Which other origins' pages may use the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origins {
    /// Any, without cookies.
    Any,
    /// These, with cookies.
    These(Vec<String>),
}

static SETTINGS: LazyLock<Result<Settings, String>> =
    LazyLock::new(|| Settings::read(&|name| config::get(name).map_err(|error| error.to_string())));

/// The settings, read once an instance.
///
/// # Errors
/// 500, with what is wrong in the log.
pub(crate) fn settings() -> Result<&'static Settings, Error> {
    SETTINGS.as_ref().map_err(|why| Error::internal(format!("[config]: {why}")))
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// The setting, and what is wrong with it; never its value.
    pub(crate) fn read(
        setting: &dyn Fn(&str) -> Result<Option<String>, String>,
    ) -> Result<Self, String> {
        let list = |name| Ok::<_, String>(words(setting(name)?.as_deref()));
        let audiences = list("audience")?;
        let issuers = list("issuer")?;
        let url = match audiences.first() {
            Some(first) => Some(Url::parse(first).map_err(|_| "audience: the first is no URL")?),
            None => None,
        };
        let is_hub = |url: &Url| matches!(url.scheme(), "http" | "https") && url.path() == HUB;
        if url.as_ref().is_some_and(|url| !is_hub(url)) {
            return Err(format!(
                "audience: the first is not the URL of a hub, which ends in {HUB}"
            ));
        }
        let compatible = switch(setting, "compatibility", true)?;
        let verifier = |role: &str| {
            Ok::<_, String>(Verifier {
                keys: keys(setting, role)?,
                audiences: audiences.clone(),
                issuers: issuers.clone(),
                compatible,
            })
        };
        let cors_origins = match list("cors-origins")? {
            any if any == ["*"] => Origins::Any,
            these if these.iter().any(|origin| origin == "*") => {
                return Err("cors-origins: `*` stands alone".to_owned());
            }
            these => Origins::These(these),
        };
        let lifetime = match setting("connection-lifetime")? {
            None => DEFAULT_LIFETIME,
            Some(text) => {
                let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
                Duration::from_secs(seconds.ok_or("connection-lifetime: not a number of seconds")?)
            }
        };
        let names = ["key", "publisher-key", "subscriber-key"];
        let is_demo =
            names.iter().any(|name| setting(name).is_ok_and(|k| k.as_deref() == Some(DEMO_KEY)));
        Ok(Self {
            publishers: verifier("publisher")?,
            subscribers: verifier("subscriber")?,
            anonymous: switch(setting, "anonymous", true)?,
            query_tokens: switch(setting, "query-tokens", true)?,
            publish_origins: list("publish-origins")?,
            url,
            issuers,
            compatible,
            cors_origins,
            lifetime,
            is_demo,
        })
    }

    /// The hub's URL: its name in tokens, and what relative topics belong to. Unless it is set, the one
    /// that the client asked: a token for another hub then holds here if it is sent to that one's name.
    pub(crate) fn hub(&self, request: &Request) -> Url {
        let asked = || Url::parse(&format!("{}{HUB}", origin(request))).ok();
        let nowhere = || Url::parse("https://localhost/.well-known/mercure");
        self.url.clone().or_else(asked).unwrap_or_else(|| nowhere().expect("it is a URL"))
    }
}

/// The keys of a role: its own, or the common ones.
fn keys(
    setting: &dyn Fn(&str) -> Result<Option<String>, String>,
    role: &str,
) -> Result<Vec<Key>, String> {
    let own = format!("{role}-key");
    let (name, text, algorithm) = match setting(&own)? {
        Some(text) => (own, text, setting(&format!("{role}-algorithm"))?),
        None => {
            let text = setting("key")?.ok_or("key: it is missing")?;
            ("key".to_owned(), text, setting("algorithm")?)
        }
    };
    let algorithm = match algorithm {
        Some(algorithm) => Some(
            Algorithm::named(&algorithm)
                .ok_or_else(|| format!("{name}: its algorithm is none of {}", Algorithm::NAMES))?,
        ),
        None => None,
    };
    key::keys(&text, algorithm).map_err(|why| format!("{name}: {why}"))
}

fn switch(
    setting: &dyn Fn(&str) -> Result<Option<String>, String>,
    name: &str,
    default: bool,
) -> Result<bool, String> {
    match setting(name)?.as_deref() {
        None => Ok(default),
        Some("on" | "true") => Ok(true),
        Some("off" | "false") => Ok(false),
        Some(_) => Err(format!("{name}: neither on nor off")),
    }
}

fn words(text: Option<&str>) -> Vec<String> {
    text.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use wharf_sdk::Method;

    use super::*;
    use crate::testing::request;

    /// Settings with a secret, and what `changes` say.
    pub(crate) fn read(changes: &[(&str, &str)]) -> Result<Settings, String> {
        let defaults = [
            ("key", DEMO_KEY),
            ("algorithm", "HS256"),
            ("audience", "https://hub.example.com/.well-known/mercure other"),
        ];
        Settings::read(&|name| {
            let mut all = changes.iter().rev().chain(&defaults);
            let found = all.find(|(key, _)| *key == name);
            Ok(found.map(|(_, value)| (*value).to_owned()).filter(|value| !value.is_empty()))
        })
    }

    #[test]
    fn mistakes_are_told_by_their_setting_without_its_value() {
        for (name, value) in [
            ("key", ""),
            ("algorithm", "none"),
            ("algorithm", "RS256"),
            ("audience", "https://hub.example.com/"),
            ("audience", "hub"),
            ("audience", "mailto:hub@example.com"),
            ("anonymous", "maybe"),
            ("cors-origins", "* https://example.com"),
            ("connection-lifetime", "1h"),
            ("connection-lifetime", "0"),
            ("subscriber-key", "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----"),
            ("publisher-key", r#"{"kty":"oct"}"#),
        ] {
            let told = read(&[(name, value)]).unwrap_err();

            assert!(!told.contains("Change") && !told.contains("BEGIN"), "{told}");
        }
    }

    #[test]
    fn a_public_key_is_no_secret() {
        let told = read(&[("key", "-----BEGIN PUBLIC KEY-----"), ("algorithm", "HS256")]);

        assert_eq!(told.unwrap_err(), "key: a PEM key is no secret");
    }

    #[test]
    fn defaults_are_those_of_a_demonstration() {
        let settings = read(&[]).unwrap();

        assert!(
            settings.anonymous && settings.compatible && settings.query_tokens && settings.is_demo
        );
        assert_eq!(settings.cors_origins, Origins::These(Vec::new()));
        assert!(!read(&[("key", "something else")]).unwrap().is_demo);
    }

    #[test]
    fn a_hub_without_a_name_has_the_one_that_it_is_asked_by() {
        let asked = request(Method::GET, "/", &[("host", "localhost:1234")], "");

        let unnamed = read(&[("audience", "")]).unwrap().hub(&asked);
        let named = read(&[]).unwrap().hub(&asked);

        assert_eq!(unnamed.as_str(), "https://localhost:1234/.well-known/mercure");
        assert_eq!(named.as_str(), "https://hub.example.com/.well-known/mercure");
    }
}
