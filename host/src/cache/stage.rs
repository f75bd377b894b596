//! A request's way through the cache (ARCHITECTURE §4, stages 5 and 8): found and fresh, or stale and to
//! be validated, or missing and to be filled; alone, or together with others that ask the same.
//!
//! What asks the plugin is an [`Origin`]: `app.rs` has the real one.

use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, CONTENT_LENGTH, DATE, RANGE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::BodyExt;
use wharf_cache::key::Target;
use wharf_cache::lookup::{self, Conditions, Failure, Missing};
use wharf_cache::status::{CACHE_STATUS, Fwd};
use wharf_cache::validate::{self, HeadEffect};
use wharf_cache::{
    CacheStatus, Decision, Key, Options, Refusal, Request as View, Stored, Times, decide,
    decide_without, invalidate, policy, storable,
};

use super::blocks::Blocks;
use super::figures::Outcome;
use super::flight::{Leader, Role};
use super::storage::{Entry, Resource, Storage, names};
use super::stream::{self, Stream};
use super::{Cache, PASS_TIME};
use crate::http::body::{RequestBody, ResponseBody};
use crate::http::coding::Coding;
use crate::http::control::Control;
use crate::http::finish::{CodedStore, FinishPolicy};
use crate::plugin::manifest::cache::RoutePolicy;

/// How long a validation in the background may take, its body included.
const BACKGROUND_LIMIT: Duration = Duration::from_secs(120);

/// How often a request joins another's answer that then comes to nothing, before it goes on its own.
const MAX_JOINS: usize = 3;

/// What a request asks, for those who wait for one answer: its key, and the fields that select a
/// variant where that is known.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FlightKey(Key, u64);

/// What came of a request that others wait for.
#[derive(Clone)]
pub enum Landed {
    /// It is stored.
    Stored(Arc<Entry>),
    /// Its head is here, and its body on the way.
    Coming(Arc<Stored>, Weak<Stream>),
    /// It is not for others.
    Own,
}

/// Who answers, and how the cache is to behave for it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The plugin's name.
    pub plugin: &'a Arc<str>,
    /// The pattern that matched, for metrics.
    pub route: &'a str,
    /// What its keys begin with: the plugin and all versions that have part in its answers.
    pub space: &'a str,
    /// What its manifest says.
    pub policy: &'a RoutePolicy,
    /// It has a part of the cache to itself.
    pub has_own: bool,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// As the validator left it.
    pub authority: &'a str,
}

/// What asks the plugin behind a route, in the name of one request.
pub trait Origin: Send + Sync + Sized + 'static {
    /// Why there is no answer.
    type Refusal: Send + 'static;

    /// Who answers.
    fn asked(&self) -> Asked<'_>;

    /// Asks it.
    fn call(
        &self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Called, Self::Refusal>> + Send;

    /// One that asks for the cache itself, after the client has been answered.
    fn background(&self) -> Self;
}

/// What a plugin answered.
#[derive(Debug)]
pub struct Called {
    /// The answer.
    pub response: Response<ResponseBody>,
    /// What the plugin wishes for it.
    pub control: Option<Arc<Control>>,
    /// The host holds the body: a stream of events, a socket, a file.
    pub is_held: bool,
    /// How long it took.
    pub took: Duration,
}

/// What a client gets.
#[derive(Debug)]
pub struct Answer {
    /// The answer.
    pub response: Response<ResponseBody>,
    /// What the plugin wishes for it, where it was asked.
    pub control: Option<Arc<Control>>,
    /// The host holds the body.
    pub is_held: bool,
    /// How the request fared.
    pub outcome: Outcome,
    /// Where the body comes from, if it is stored: its coded forms can be kept there.
    pub stored: Option<Kept>,
    /// The head is the entry's, finished as far as it is the same for everybody.
    pub is_prepared: bool,
    /// How long the plugin took, where it was asked.
    pub took: Option<Duration>,
}

impl Answer {
    /// An empty one that no plugin was asked for.
    fn of_nobody() -> Self {
        Self {
            response: Response::new(ResponseBody::empty()),
            control: None,
            is_held: false,
            outcome: Outcome::Miss,
            stored: None,
            is_prepared: false,
            took: None,
        }
    }
}

impl From<Called> for Answer {
    /// An answer that the cache has no part in.
    fn from(called: Called) -> Self {
        Self {
            response: called.response,
            control: called.control,
            is_held: called.is_held,
            outcome: Outcome::Bypass,
            took: Some(called.took),
            ..Self::of_nobody()
        }
    }
}

/// A stored answer, to keep the coded forms of its body with.
#[derive(Clone, Debug)]
pub struct Kept {
    pub(super) storage: Arc<Storage>,
    pub(super) key: Key,
    /// The entry.
    pub entry: Arc<Entry>,
}

impl CodedStore for Kept {
    fn coded(&self, coding: Coding) -> Option<Bytes> {
        self.entry.coded(coding).cloned()
    }

    fn claim(&self, coding: Coding) -> bool {
        self.entry.claim(coding)
    }

    fn keep(&self, coding: Coding, content: Option<Bytes>) {
        match content {
            Some(content) => self.storage.keep_coded(&self.key, &self.entry, coding, &content),
            None => self.entry.give_up(coding),
        }
    }
}

/// Everything that a request's way through the cache needs.
struct Visit<'a, O> {
    cache: &'a Arc<Cache>,
    origin: &'a O,
    storage: Arc<Storage>,
    key: Key,
    method: Method,
    /// As the client sent them.
    headers: HeaderMap,
}

impl Cache {
    /// Answers a request with what is stored, where that is fresh: nothing has to be waited for, and
    /// nothing of the request is copied. Nothing where more is to be found out.
    pub fn at_once(&self, asked: Asked<'_>, request: &Request<RequestBody>) -> Option<Answer> {
        let (method, headers) = (request.method(), request.headers());
        let view = View { method, headers, has_body: request.body().declared() != Some(0) };
        if lookup::bypass(view).is_some() {
            return None;
        }
        let path = path_and_query(request.uri());
        let target =
            Target { scheme: asked.scheme, authority: asked.authority, path_and_query: path };
        let key = Key::new(&asked.policy.key_rules, asked.space, target, headers);
        let storage = self.storage(asked.plugin, asked.has_own);
        let entry = select(&*storage.get(&key)?, headers)?;
        match decide(view, &entry.stored, &asked.policy.options, SystemTime::now()) {
            Decision::Serve { age, left } => {
                let ttl = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
                let kept = Kept { storage, key, entry };
                Some(stored_answer(kept, age, &CacheStatus::hit(ttl), Outcome::Hit))
            }
            _ => None,
        }
    }

    /// Answers a request, from what is stored or from the plugin.
    ///
    /// # Errors
    /// Those of the plugin, where nothing stored may stand in for it.
    pub async fn answer<O: Origin>(
        self: &Arc<Self>,
        origin: &O,
        request: Request<RequestBody>,
    ) -> Result<Answer, O::Refusal> {
        let asked = origin.asked();
        let view = View {
            method: request.method(),
            headers: request.headers(),
            has_body: request.body().declared() != Some(0),
        };
        if let Some((reason, _)) = lookup::bypass(view) {
            return self.bypass(origin, request, reason).await;
        }
        let (parts, body) = request.into_parts();
        let key =
            Key::new(&asked.policy.key_rules, asked.space, target(asked, &parts), &parts.headers);
        let visit = Visit {
            cache: self,
            origin,
            storage: self.storage(asked.plugin, asked.has_own),
            key,
            method: parts.method.clone(),
            headers: parts.headers.clone(),
        };
        visit.answer(parts, body).await
    }

    /// A request that the cache has no part in, but for what its answer makes invalid.
    async fn bypass<O: Origin>(
        self: &Arc<Self>,
        origin: &O,
        request: Request<RequestBody>,
        reason: Fwd,
    ) -> Result<Answer, O::Refusal> {
        let asked = origin.asked();
        let (parts, body) = request.into_parts();
        let unsafe_target = (!parts.method.is_safe()).then(|| {
            let target = target(asked, &parts);
            (parts.method.clone(), target.path_and_query.to_owned())
        });
        let called = origin.call(Request::from_parts(parts, body)).await?;
        let (mut head, body) = called.response.into_parts();
        if let Some((method, path)) = unsafe_target {
            let target =
                Target { scheme: asked.scheme, authority: asked.authority, path_and_query: &path };
            let rules = &asked.policy.key_rules;
            let status = head.status;
            self.invalidate(&invalidate::targets(
                rules,
                asked.space,
                target,
                &method,
                status,
                &head.headers,
            ));
        }
        storable::strip_private(&mut head.headers);
        if !called.is_held {
            CacheStatus::forwarded(reason).append(&mut head.headers);
        }
        Ok(Answer {
            response: Response::from_parts(head, body),
            control: called.control,
            is_held: called.is_held,
            outcome: Outcome::Bypass,
            stored: None,
            is_prepared: false,
            took: Some(called.took),
        })
    }
}

fn target<'a>(asked: Asked<'a>, parts: &'a Parts) -> Target<'a> {
    let path_and_query = path_and_query(&parts.uri);
    Target { scheme: asked.scheme, authority: asked.authority, path_and_query }
}

fn path_and_query(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
}

/// The variant of what is stored that a request selects.
fn select(resource: &Resource, headers: &HeaderMap) -> Option<Arc<Entry>> {
    match &*resource.variants {
        [only] if only.stored.selecting().is_empty() => Some(Arc::clone(only)),
        variants => {
            let entry = lookup::select(variants.iter().map(|it| &**it), headers)?;
            variants.iter().find(|it| std::ptr::eq(&***it, entry)).cloned()
        }
    }
}

impl<O: Origin> Visit<'_, O> {
    fn view(&self) -> View<'_> {
        View { method: &self.method, headers: &self.headers, has_body: false }
    }

    fn options(&self) -> &Options {
        &self.origin.asked().policy.options
    }

    /// What is stored for the request, and the variant that it selects.
    fn find(&self) -> (Option<Arc<Resource>>, Option<Arc<Entry>>) {
        let Some(resource) = self.storage.get(&self.key) else { return (None, None) };
        let entry = select(&resource, &self.headers);
        (Some(resource), entry)
    }

    async fn answer(self, mut parts: Parts, mut body: RequestBody) -> Result<Answer, O::Refusal> {
        let mut joins = 0;
        let mut collapsed = false;
        // A 304 that spoke of something else: asked once more, without conditions.
        let mut unconditional = false;
        loop {
            let now = SystemTime::now();
            let (resource, entry) = self.find();
            let decision = match (&entry, &resource) {
                (Some(entry), _) => decide(self.view(), &entry.stored, self.options(), now),
                (None, Some(_)) => decide_without(self.view(), self.options(), Missing::Variant),
                (None, None) => decide_without(self.view(), self.options(), Missing::Uri),
            };
            let (reason, conditions) = match decision {
                Decision::Serve { age, left } => {
                    let Some(entry) = entry else { continue };
                    let ttl = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
                    return Ok(self.hit(entry, age, ttl, Outcome::Hit, collapsed, None));
                }
                Decision::ServeStale { reason, age, by, revalidate } => {
                    let Some(entry) = entry else { continue };
                    if revalidate {
                        self.revalidate(&entry, &resource, &parts);
                    }
                    return Ok(self.stale(entry, age, by, reason));
                }
                Decision::GatewayTimeout => return Ok(gateway_timeout()),
                Decision::Validate { conditions, reason } if !unconditional => {
                    (reason, Some(conditions))
                }
                Decision::Validate { reason, .. } | Decision::Forward { reason } => (reason, None),
            };
            let flight = self.flight(resource.as_deref());
            let mut leader = None;
            if joins < MAX_JOINS && self.collapses(reason, entry.as_deref()) {
                match self.cache.flights.join(&flight) {
                    Role::Leader(first) => {
                        leader = Some(first);
                        // Somebody may have stored it since it was looked for.
                        let (again, _) = self.find();
                        let is_same = match (&again, &resource) {
                            (Some(again), Some(before)) => Arc::ptr_eq(again, before),
                            (again, before) => again.is_none() && before.is_none(),
                        };
                        if !is_same {
                            joins += 1;
                            continue;
                        }
                    }
                    Role::Follower(follower) => {
                        joins += 1;
                        collapsed = true;
                        match follower.told().await {
                            Some(Landed::Stored(entry)) => {
                                let is_variant = entry.stored.matches(&self.headers);
                                if let Some(answer) = self.shared(entry, reason) {
                                    return Ok(answer);
                                }
                                // Now it is known what to wait for: those who ask for this one.
                                if is_variant {
                                    joins = MAX_JOINS;
                                }
                            }
                            Some(Landed::Coming(stored, stream)) => {
                                if let Some(answer) = self.coming(&stored, &stream, reason) {
                                    return Ok(answer);
                                }
                                if !stored.matches(&self.headers) {
                                    continue;
                                }
                            }
                            Some(Landed::Own) => joins = MAX_JOINS,
                            None => {}
                        }
                        continue;
                    }
                }
            }
            let spare = conditions.is_some().then(|| copy(&parts));
            let asked = Ask { reason, conditions, entry, leader, collapsed };
            match self.ask(asked, parts, body).await {
                Ok(answer) => return Ok(answer),
                Err(Asking::Refused(refusal)) => return Err(refusal),
                Err(Asking::Again) => {
                    let Some(spare) = spare else { return Ok(gateway_timeout()) };
                    parts = spare;
                    body = RequestBody::empty();
                    unconditional = true;
                }
            }
        }
    }

    /// Whether the request waits for another's answer, or others for its own.
    fn collapses(&self, reason: Fwd, entry: Option<&Entry>) -> bool {
        // What has to be validated each time is no answer for those who wait.
        let is_shared = entry.is_none_or(|entry| {
            !entry.stored.always_validate() && !entry.stored.lifetime().is_zero()
        });
        self.method == Method::GET
            && reason != Fwd::Request
            && is_shared
            && self.origin.asked().policy.collapse
            && !self.headers.contains_key(RANGE)
            && !self.is_passed()
    }

    /// Whether the last answer for the key was not to be stored.
    fn is_passed(&self) -> bool {
        match self.cache.passes.get(&self.key) {
            Some(until) if Instant::now() < until => true,
            Some(_) => {
                self.cache.passes.remove(&self.key);
                false
            }
            None => false,
        }
    }

    fn flight(&self, resource: Option<&Resource>) -> FlightKey {
        let mut hasher = DefaultHasher::new();
        if let Some(newest) = resource.and_then(|resource| resource.variants.last()) {
            for name in newest.stored.selecting().names() {
                for value in self.headers.get_all(name) {
                    value.as_bytes().hash(&mut hasher);
                }
                // Between fields, and for one that is not there.
                0xff_u8.hash(&mut hasher);
            }
        }
        FlightKey(self.key.clone(), hasher.finish())
    }

    /// An answer that was stored for somebody who asked the same at the same time.
    fn shared(&self, entry: Arc<Entry>, reason: Fwd) -> Option<Answer> {
        if !entry.stored.matches(&self.headers) {
            return None;
        }
        match decide(self.view(), &entry.stored, self.options(), SystemTime::now()) {
            Decision::Serve { age, left } => {
                let ttl = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
                Some(self.hit(entry, age, ttl, Outcome::Hit, true, Some(reason)))
            }
            Decision::ServeStale { reason, age, by, .. } => {
                Some(self.stale(entry, age, by, reason))
            }
            _ => None,
        }
    }

    /// An answer that is still coming for somebody who asked the same at the same time.
    fn coming(&self, stored: &Stored, stream: &Weak<Stream>, reason: Fwd) -> Option<Answer> {
        let now = SystemTime::now();
        let usable = matches!(
            decide(self.view(), stored, self.options(), now),
            Decision::Serve { .. } | Decision::ServeStale { .. }
        );
        if !stored.matches(&self.headers) || !usable {
            return None;
        }
        let body = stream.upgrade()?.reader()?;
        let status = CacheStatus {
            collapsed: true,
            ttl: Some(ttl(stored, now)),
            ..CacheStatus::forwarded(reason)
        };
        let head = (stored.status(), stored.headers());
        let response = respond(head, stored.age(now), &status, body);
        Some(Answer { response, outcome: Outcome::Hit, ..Answer::of_nobody() })
    }

    /// The stored answer, fresh.
    fn hit(
        &self,
        entry: Arc<Entry>,
        age: Duration,
        ttl: i64,
        outcome: Outcome,
        collapsed: bool,
        reason: Option<Fwd>,
    ) -> Answer {
        let status = match reason {
            Some(reason) => {
                CacheStatus { collapsed, ttl: Some(ttl), ..CacheStatus::forwarded(reason) }
            }
            None => CacheStatus::hit(ttl),
        };
        stored_answer(self.kept(entry), age, &status, outcome)
    }

    /// The stored answer, stale.
    fn stale(
        &self,
        entry: Arc<Entry>,
        age: Duration,
        by: Duration,
        reason: lookup::StaleReason,
    ) -> Answer {
        let ttl = -i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        let status = CacheStatus { detail: Some(reason.token()), ..CacheStatus::hit(ttl) };
        stored_answer(self.kept(entry), age, &status, Outcome::Stale)
    }

    fn kept(&self, entry: Arc<Entry>) -> Kept {
        Kept { storage: Arc::clone(&self.storage), key: self.key.clone(), entry }
    }

    /// Asks the plugin, and stores what it says.
    async fn ask(
        &self,
        asked: Ask,
        mut parts: Parts,
        body: RequestBody,
    ) -> Result<Answer, Asking<O::Refusal>> {
        let purges = self.cache.purges.now();
        if let Some(conditions) = &asked.conditions {
            conditions.apply(&mut parts.headers);
        }
        let requested = SystemTime::now();
        let called = self.origin.call(Request::from_parts(parts, body)).await;
        let received = SystemTime::now();
        let called = match called {
            Ok(called) => called,
            Err(refusal) => {
                if let Some(leader) = &asked.leader {
                    leader.tell(Landed::Own);
                }
                let stale = self.instead(asked.entry.as_ref(), Failure::NoAnswer, received);
                return stale.ok_or(Asking::Refused(refusal));
            }
        };
        let status = called.response.status();
        if let Some(stale) = self.instead(asked.entry.as_ref(), Failure::Status(status), received) {
            if let Some(leader) = &asked.leader {
                leader.tell(Landed::Own);
            }
            return Ok(stale);
        }
        let answered = Answered { called, times: Times { requested, received }, purges };
        if status == StatusCode::NOT_MODIFIED && asked.conditions.is_some() {
            return self.validated(asked, answered);
        }
        Ok(self.forwarded(asked, answered))
    }

    /// The stored answer in the place of an error, where that is allowed.
    fn instead(
        &self,
        entry: Option<&Arc<Entry>>,
        failure: Failure,
        now: SystemTime,
    ) -> Option<Answer> {
        let entry = entry?;
        let decision =
            lookup::stale_on_error(self.view(), &entry.stored, self.options(), now, failure)?;
        let Decision::ServeStale { reason, age, by, .. } = decision else { return None };
        let mut answer = self.stale(Arc::clone(entry), age, by, reason);
        let fwd_status = match failure {
            Failure::Status(status) => Some(status),
            Failure::NoAnswer => None,
        };
        let ttl = -i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        let status = CacheStatus {
            fwd_status,
            ttl: Some(ttl),
            detail: Some(reason.token()),
            ..CacheStatus::forwarded(Fwd::Stale)
        };
        replace_status(answer.response.headers_mut(), &entry.stored, &status);
        Some(answer)
    }

    /// The plugin says that what is stored is still right.
    fn validated(&self, asked: Ask, answered: Answered) -> Result<Answer, Asking<O::Refusal>> {
        let Answered { called, times, purges } = answered;
        let Some(entry) = asked.entry else { return Err(Asking::Again) };
        let mut head = called.response.into_parts().0;
        policy::apply(self.view(), head.status, &mut head.headers, self.options());
        let freshened =
            validate::freshen(&entry.stored, self.view(), &head.headers, times, self.options());
        let Some(freshened) = freshened else {
            self.storage.remove(&self.key);
            return Err(Asking::Again);
        };
        let mut body = Arc::clone(&entry);
        match freshened.stored {
            Ok(stored) => {
                let fresh = entry.with(stored);
                let names =
                    names(&self.cache.index, self.origin.asked().plugin, &self.key, &fresh.stored);
                if !self.cache.purges.since(purges, &names) {
                    self.storage.replace(&self.key, &entry, &fresh);
                    if let Some(leader) = &asked.leader {
                        leader.tell(Landed::Stored(Arc::clone(&fresh)));
                    }
                }
                body = fresh;
            }
            Err(Refusal::RequestNoStore) => {}
            Err(refusal) => {
                self.refused(refusal);
                self.storage.remove(&self.key);
            }
        }
        let status = CacheStatus {
            fwd_status: Some(StatusCode::NOT_MODIFIED),
            ttl: Some(ttl(&body.stored, times.received)),
            collapsed: asked.collapsed,
            ..CacheStatus::forwarded(asked.reason)
        };
        let mut response = Response::new(body.body.body());
        *response.status_mut() = body.stored.status();
        *response.headers_mut() = freshened.headers;
        response.headers_mut().insert(AGE, freshened.age.as_secs().into());
        status.append(response.headers_mut());
        Ok(Answer {
            response,
            control: called.control,
            outcome: Outcome::Revalidated,
            stored: Some(self.kept(body)),
            took: Some(called.took),
            ..Answer::of_nobody()
        })
    }

    /// What the plugin answered, stored while it is sent where that is allowed.
    fn forwarded(&self, mut asked: Ask, answered: Answered) -> Answer {
        let Answered { called, times, purges } = answered;
        let (mut head, mut body) = called.response.into_parts();
        let outcome = match asked.reason {
            Fwd::Stale | Fwd::Request => Outcome::Expired,
            Fwd::Bypass | Fwd::Method => Outcome::Bypass,
            _ if called.is_held => Outcome::Bypass,
            _ => Outcome::Miss,
        };
        policy::apply(self.view(), head.status, &mut head.headers, self.options());
        let mut kept = None;
        let stored = match self.stored(&head, &body, called.is_held, times) {
            Ok(stored) => {
                let fill = Fill {
                    cache: Arc::clone(self.cache),
                    storage: Arc::clone(&self.storage),
                    plugin: Arc::clone(self.origin.asked().plugin),
                    route: self.origin.asked().route.into(),
                    key: self.key.clone(),
                    stored: Arc::new(stored),
                    policy: self.origin.asked().policy.finish(),
                    purges,
                    leader: asked.leader.take().map(Arc::new),
                };
                let largest = self.origin.asked().policy.largest;
                let filled = fill.begin(body, largest);
                body = filled.0;
                kept = filled.1;
                Ok(())
            }
            Err(refusal) => {
                self.not_stored(refusal, &asked, &head, times);
                if let Some(leader) = &asked.leader {
                    leader.tell(Landed::Own);
                }
                Err(refusal)
            }
        };
        storable::strip_private(&mut head.headers);
        if !called.is_held {
            let fwd_status = (head.status == StatusCode::NOT_MODIFIED).then_some(head.status);
            let status = CacheStatus {
                stored: stored.is_ok(),
                fwd_status,
                collapsed: asked.collapsed,
                detail: stored.err().map(Refusal::token),
                ..CacheStatus::forwarded(asked.reason)
            };
            status.append(&mut head.headers);
        }
        let stored = kept.map(|entry| Kept {
            storage: Arc::clone(&self.storage),
            key: self.key.clone(),
            entry,
        });
        let response = Response::from_parts(head, body);
        Answer {
            response,
            control: called.control,
            is_held: called.is_held,
            outcome,
            stored,
            is_prepared: false,
            took: Some(called.took),
        }
    }

    fn stored(
        &self,
        head: &http::response::Parts,
        body: &ResponseBody,
        is_held: bool,
        times: Times,
    ) -> Result<Stored, Refusal> {
        if is_held || body.is_switching() {
            return Err(Refusal::HostHeld);
        }
        let asked = self.origin.asked();
        if !asked.policy.enabled || !self.cache.is_on() {
            return Err(Refusal::Disabled);
        }
        let stored = storable(self.view(), head.status, &head.headers, times, self.options())?;
        let length = body.size_hint().exact().or_else(|| content_length(&head.headers));
        if length.is_some_and(|length| length > asked.policy.largest) {
            return Err(Refusal::TooLarge);
        }
        Ok(stored)
    }

    /// What follows from an answer that is not stored.
    fn not_stored(
        &self,
        refusal: Refusal,
        asked: &Ask,
        head: &http::response::Parts,
        times: Times,
    ) {
        if self.method == Method::HEAD {
            self.learn_from_head(asked, head, times);
            return;
        }
        self.refused(refusal);
        if refusal.is_lasting() {
            self.cache.passes.insert(self.key.clone(), Instant::now() + PASS_TIME);
            // The newer answer takes the place of the older one, though it is not kept.
            if asked.entry.is_some() && head.status.is_success() {
                self.storage.remove(&self.key);
            }
        }
    }

    /// RFC 9111 §4.3.5.
    fn learn_from_head(&self, asked: &Ask, head: &http::response::Parts, times: Times) {
        let Some(entry) = &asked.entry else { return };
        let length = entry.body.size();
        let answer = (head.status, &head.headers);
        match validate::head(&entry.stored, length, self.view(), answer, times, self.options()) {
            HeadEffect::Freshened(freshened) => match freshened.stored {
                Ok(stored) => self.storage.replace(&self.key, entry, &entry.with(stored)),
                Err(Refusal::RequestNoStore) => {}
                Err(_) => drop(self.storage.remove(&self.key)),
            },
            HeadEffect::Stale => {
                let stale = entry.with(entry.stored.purged(times.received));
                self.storage.replace(&self.key, entry, &stale);
            }
            HeadEffect::None => {}
        }
    }

    fn refused(&self, refusal: Refusal) {
        let asked = self.origin.asked();
        self.cache.figures.refused(asked.plugin, asked.route, refusal);
    }

    /// Validates a stale entry after its answer, unless somebody does already.
    fn revalidate(&self, entry: &Arc<Entry>, resource: &Option<Arc<Resource>>, parts: &Parts) {
        let Some(leader) = self.cache.flights.lead(&self.flight(resource.as_deref())) else {
            return;
        };
        let Ok(place) = Arc::clone(&self.cache.background).try_acquire_owned() else { return };
        let (cache, origin) = (Arc::clone(self.cache), self.origin.background());
        let (storage, key) = (Arc::clone(&self.storage), self.key.clone());
        let mut parts = copy(parts);
        parts.method = Method::GET;
        let entry = Arc::clone(entry);
        let work = async move {
            let visit = Visit {
                cache: &cache,
                origin: &origin,
                storage,
                key,
                method: parts.method.clone(),
                headers: parts.headers.clone(),
            };
            visit.validate_in_background(entry, leader, parts).await;
            drop(place);
        };
        self.cache.drain.spawn(async move {
            let _too_slow = tokio::time::timeout(BACKGROUND_LIMIT, work).await;
        });
    }

    async fn validate_in_background(
        self,
        entry: Arc<Entry>,
        leader: Leader<FlightKey, Landed>,
        mut parts: Parts,
    ) {
        // Without the client's own conditions: its ranges and its versions are not the cache's.
        Conditions::default().apply(&mut parts.headers);
        let conditions = Conditions::of(&entry.stored);
        let is_conditional = conditions != Conditions::default();
        let spare = copy(&parts);
        let asked = Ask {
            reason: Fwd::Stale,
            conditions: is_conditional.then_some(conditions),
            entry: Some(entry),
            leader: Some(leader),
            collapsed: false,
        };
        let mut answer = self.ask(asked, parts, RequestBody::empty()).await;
        if matches!(answer, Err(Asking::Again)) {
            let asked = Ask {
                reason: Fwd::Stale,
                conditions: None,
                entry: None,
                leader: None,
                collapsed: false,
            };
            answer = self.ask(asked, spare, RequestBody::empty()).await;
        }
        // What is to be stored is stored as it is read.
        if let Ok(answer) = answer
            && answer.stored.is_none()
            && !answer.is_held
        {
            let mut body = answer.response.into_body();
            while let Some(Ok(_)) = body.frame().await {}
        }
    }
}

/// How the plugin is asked.
struct Ask {
    reason: Fwd,
    conditions: Option<Conditions>,
    entry: Option<Arc<Entry>>,
    leader: Option<Leader<FlightKey, Landed>>,
    collapsed: bool,
}

/// What it answered, and when.
struct Answered {
    called: Called,
    times: Times,
    purges: u64,
}

/// Why asking gave no answer.
enum Asking<R> {
    Refused(R),
    /// The 304 spoke of something else than what is stored.
    Again,
}

/// An answer on its way into the storage.
struct Fill {
    cache: Arc<Cache>,
    storage: Arc<Storage>,
    plugin: Arc<str>,
    route: Box<str>,
    key: Key,
    stored: Arc<Stored>,
    policy: FinishPolicy,
    /// When it was asked for, counted in purges.
    purges: u64,
    leader: Option<Arc<Leader<FlightKey, Landed>>>,
}

impl Fill {
    /// Stores a body that is here; begins to store one that is not. What the client gets, and the
    /// entry if it is stored already.
    fn begin(self, body: ResponseBody, largest: u64) -> (ResponseBody, Option<Arc<Entry>>) {
        if let Some(bytes) = body.bytes() {
            let entry =
                Blocks::copy(&self.cache.memory, &bytes).and_then(|blocks| self.put(blocks));
            if let Some(leader) = &self.leader {
                leader.tell(entry.clone().map_or(Landed::Own, Landed::Stored));
            }
            return (body, entry);
        }
        let memory = Arc::clone(&self.cache.memory);
        let (stored, leader) = (Arc::clone(&self.stored), self.leader.clone());
        let declared = self.stored.headers().get(CONTENT_LENGTH);
        let declared = declared.and_then(crate::http::validate::parse_content_length);
        let stream = Stream::new(body, &memory, declared, largest, Box::new(self));
        let reader = stream.reader().unwrap_or_else(ResponseBody::empty);
        if let Some(leader) = leader {
            leader.tell(Landed::Coming(stored, Arc::downgrade(&stream)));
        }
        (reader, None)
    }

    fn put(&self, blocks: Blocks) -> Option<Arc<Entry>> {
        if content_length(self.stored.headers()).is_some_and(|length| length != blocks.size()) {
            self.cache.figures.refused(&self.plugin, &self.route, Refusal::Incomplete);
            return None;
        }
        let names = names(&self.cache.index, &self.plugin, &self.key, &self.stored);
        if self.cache.purges.since(self.purges, &names) {
            return None;
        }
        let entry = Entry::new(Stored::clone(&self.stored), blocks, self.policy);
        self.storage.put(&self.plugin, &self.key, Arc::clone(&entry));
        self.cache.passes.remove(&self.key);
        self.cache.figures.stored();
        Some(entry)
    }
}

impl stream::Outcome for Fill {
    fn stored(self: Box<Self>, body: Blocks) {
        if let Some(entry) = self.put(body)
            && let Some(leader) = &self.leader
        {
            leader.tell(Landed::Stored(entry));
        }
    }

    fn too_large(self: Box<Self>) {
        self.cache.figures.refused(&self.plugin, &self.route, Refusal::TooLarge);
        self.cache.passes.insert(self.key.clone(), Instant::now() + PASS_TIME);
    }
}

/// A stored answer.
fn stored_answer(kept: Kept, age: Duration, status: &CacheStatus<'_>, outcome: Outcome) -> Answer {
    let entry = &kept.entry;
    let response = respond((entry.stored.status(), &entry.headers), age, status, entry.body.body());
    Answer { response, outcome, stored: Some(kept), is_prepared: true, ..Answer::of_nobody() }
}

/// A response with a stored head.
fn respond(
    (status_code, head): (StatusCode, &HeaderMap),
    age: Duration,
    status: &CacheStatus<'_>,
    body: ResponseBody,
) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status_code;
    *response.headers_mut() = head.clone();
    let headers = response.headers_mut();
    headers.insert(AGE, age.as_secs().into());
    if headers.get(CACHE_STATUS).is_some_and(HeaderValue::is_empty) {
        // Its place in an entry's head.
        headers.insert(CACHE_STATUS, status.to_value());
    } else {
        status.append(headers);
    }
    response
}

/// Puts another `Cache-Status` in the place of ours.
fn replace_status(headers: &mut HeaderMap, stored: &Stored, status: &CacheStatus<'_>) {
    headers.remove(CACHE_STATUS);
    for earlier in stored.headers().get_all(CACHE_STATUS) {
        headers.append(CACHE_STATUS, earlier.clone());
    }
    status.append(headers);
}

fn ttl(stored: &Stored, now: SystemTime) -> i64 {
    let (lifetime, age) = (stored.lifetime().as_secs(), stored.age(now).as_secs());
    i64::try_from(lifetime).unwrap_or(i64::MAX) - i64::try_from(age).unwrap_or(i64::MAX)
}

/// `only-if-cached`, and nothing is (RFC 9111 §5.2.1.7).
fn gateway_timeout() -> Answer {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let now = httpdate::fmt_http_date(SystemTime::now());
    if let Ok(now) = HeaderValue::from_str(&now) {
        headers.insert(DATE, now);
    }
    CacheStatus { detail: Some("only-if-cached"), ..CacheStatus::default() }.append(headers);
    Answer { response, ..Answer::of_nobody() }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A request's head without what belongs to its connection.
fn copy(parts: &Parts) -> Parts {
    let mut copy = Request::new(()).into_parts().0;
    copy.method = parts.method.clone();
    copy.uri = parts.uri.clone();
    copy.version = parts.version;
    copy.headers = parts.headers.clone();
    copy
}
