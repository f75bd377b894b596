//! A request's way through the cache (ARCHITECTURE §4, stages 5 and 8): found and fresh, or stale and to
//! be validated, or missing and to be filled; alone, or together with others that ask the same.
//!
//! What asks the plugin is an [`Origin`], what comes of it an [`Answer`], what is stored on the way a
//! `Fill`. The decisions themselves are here in one place, though it is long: each way ends in another.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use http::header::{AGE, RANGE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::BodyExt;
use wharf_cache::key::Target;
use wharf_cache::lookup::{self, Conditions, Failure, Missing};
use wharf_cache::status::Fwd;
use wharf_cache::validate::{self, HeadEffect};
use wharf_cache::{
    CacheStatus, Decision, Key, Options, Refusal, Request as View, Stored, Times, decide,
    decide_without, invalidate, policy, storable,
};

pub use super::answer::{Answer, Kept};
use super::answer::{gateway_timeout, replace_status, respond, stored_answer, ttl};
use super::figures::Outcome;
use super::fill::{Fill, content_length};
use super::flight::{Leader, Role};
pub use super::origin::{Asked, Called, Origin};
use super::storage::{Entry, Resource, Storage, names};
use super::stream::Stream;
use super::{Cache, PASS_TIME};
use crate::http::body::{RequestBody, ResponseBody};

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

/// A request's head without what belongs to its connection.
fn copy(parts: &Parts) -> Parts {
    let mut copy = Request::new(()).into_parts().0;
    copy.method = parts.method.clone();
    copy.uri = parts.uri.clone();
    copy.version = parts.version;
    copy.headers = parts.headers.clone();
    copy
}
