//! The hub and event streams over HTTP, by the query of each request; README.md tells how.

use std::time::Duration;

use serde_json::{Value, json};
use wharf_sdk::hub::{self, Event, Past, Publication, Resumption, Selector, Start, Subscription};
use wharf_sdk::sse::{self, EmitError, Heartbeat};
use wharf_sdk::{Error, Request, Response, Router};

wharf_sdk::serve!(routes);

/// The host's own functions, which the SDK's checks do not stand before.
mod plain {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "
            package test:guest;
            world importer { import wharf:host/hub@0.1.0; }
        ",
        world: "test:guest/importer",
        generate_all,
    });
}

fn routes() -> Router {
    Router::new()
        .get("/stream", stream)
        .post("/publish", publish)
        .post("/publish-plain", publish_plain)
        .post("/many", many)
        .get("/poll", poll)
        .get("/history", history)
        .get("/wait", wait)
        .get("/emit", emit)
        .get("/subscribers", subscribers)
        .get("/count", count)
        .get("/position", position)
}

fn all(request: &Request, name: &str) -> Vec<String> {
    let query = request.uri().query().unwrap_or_default();
    let pairs = form_urlencoded::parse(query.as_bytes());
    pairs.filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
}

fn one(request: &Request, name: &str) -> Option<String> {
    all(request, name).into_iter().next()
}

fn number(request: &Request, name: &str) -> Option<u64> {
    one(request, name)?.parse().ok()
}

fn milliseconds(request: &Request, name: &str) -> Option<Duration> {
    number(request, name).map(Duration::from_millis)
}

fn subscription(request: &Request) -> Subscription {
    let mut subscription = Subscription::new();
    for topic in all(request, "topic") {
        subscription = subscription.topic(topic);
    }
    for pattern in all(request, "pattern") {
        subscription = subscription.topics(pattern);
    }
    for pattern in all(request, "private") {
        subscription = subscription.private(Selector::Pattern(pattern));
    }
    for index in 0..number(request, "topics").unwrap_or(0) {
        subscription = subscription.topic(format!("t/{index}"));
    }
    subscription
}

fn start(request: &Request) -> Start {
    match one(request, "start").as_deref() {
        Some("earliest") => Start::Earliest,
        Some("now") => Start::Now,
        Some(id) => Start::After(id.to_owned()),
        None => Start::Request,
    }
}

async fn stream(request: Request) -> Result<Response, Error> {
    let mut stream =
        sse::stream(&request).subscription(subscription(&request)).start(start(&request));
    for data in all(&request, "first") {
        stream = stream.first(Event::named("first").data(data));
    }
    if let Some(every) = milliseconds(&request, "heartbeat") {
        let kind = match one(&request, "beat") {
            Some(name) => Heartbeat::event(name, "{}"),
            None => Heartbeat::Comment,
        };
        stream = stream.heartbeat(every, kind);
    }
    if let Some(retry) = milliseconds(&request, "retry") {
        stream = stream.retry(retry);
    }
    if let Some(age) = milliseconds(&request, "age") {
        stream = stream.max_age(age);
    }
    if one(&request, "lag").as_deref() == Some("drop-oldest") {
        stream = stream.drop_oldest();
    }
    for name in all(&request, "ends") {
        stream = stream.ends_with(name);
    }
    if let Some(name) = one(&request, "who") {
        stream = stream.attribute("who", name);
    }
    if let Some(topic) = one(&request, "open") {
        stream = stream.on_open(Publication::new(topic, Event::named("open").data("")));
    }
    if let Some(topic) = one(&request, "close") {
        stream = stream.on_close(Publication::new(topic, Event::named("close").data("")));
    }
    let stream = stream.open()?;
    let fields = [
        ("x-stream", stream.id),
        ("x-resumption", resumed(stream.resumption).to_owned()),
        ("x-last-id", stream.last_id),
    ];
    fields
        .into_iter()
        .try_fold(stream.response, |response, (name, value)| response.with_header(name, value))
}

fn resumed(resumption: Resumption) -> &'static str {
    match resumption {
        Resumption::Fresh => "fresh",
        Resumption::Complete => "complete",
        Resumption::Lost => "lost",
    }
}

fn publication(request: &Request, data: String) -> Publication {
    let mut topics = all(request, "topic").into_iter();
    let mut event = Event::new(data);
    if let Some(id) = one(request, "id") {
        event = event.id(id);
    }
    if let Some(name) = one(request, "name") {
        event = event.name(name);
    }
    for field in all(request, "field") {
        if let Some((name, value)) = field.split_once(':') {
            event = event.field(name, value);
        }
    }
    let mut publication = hub::publish(topics.next().unwrap_or_default(), event);
    for topic in topics {
        publication = publication.also(topic);
    }
    if one(request, "private").is_some() {
        publication = publication.private();
    }
    match one(request, "except") {
        Some(id) => publication.except(id),
        None => publication,
    }
}

async fn publish(mut request: Request) -> Result<Response, Error> {
    let data = request.text(4 << 20).await?;
    Ok(Response::text(publication(&request, data).await?))
}

/// Publishes `count` events, `prefix` and a number each; answers with the id of the last.
async fn many(request: Request) -> Result<Response, Error> {
    let (from, count) = (number(&request, "from"), number(&request, "count"));
    let prefix = one(&request, "prefix").unwrap_or_default();
    let from = from.unwrap_or(0);
    let mut last = String::new();
    for index in from..from + count.unwrap_or(1) {
        last = publication(&request, format!("{prefix}{index}")).await?;
    }
    Ok(Response::text(last))
}

/// The body is JSON: what the host's own function is given.
async fn publish_plain(mut request: Request) -> Result<Response, Error> {
    use plain::wharf::host::hub::{Event, Payload, Publication, publish};
    let given: Value = request.json(4 << 20).await?;
    let text = |name: &str| given[name].as_str().map(str::to_owned);
    let publication = Publication {
        topic: text("topic").unwrap_or_default(),
        alternates: text("alternate").into_iter().collect(),
        event: Event {
            id: text("id"),
            name: text("name"),
            data: Payload::Text(text("data").unwrap_or_default()),
            retry: None,
            fields: text("field").map(|value| ("x-field".to_owned(), value)).into_iter().collect(),
        },
        private: false,
        except: text("except"),
    };
    Ok(Response::text(match publish(&publication) {
        Ok(_) => "published".to_owned(),
        Err(error) => format!("{error:?}"),
    }))
}

async fn poll(request: Request) -> Result<Response, Error> {
    let mut poll = hub::poll(&request).subscription(subscription(&request)).start(start(&request));
    if let Some(timeout) = milliseconds(&request, "timeout") {
        poll = poll.timeout(timeout);
    }
    if one(&request, "array").is_some() {
        poll = poll.json_array();
    }
    Ok(poll.id_field("x-last-id").send()?)
}

fn past(past: Past) -> Response {
    let events = past.events.iter().map(
        |past| json!({ "id": past.id, "topic": past.topic, "data": past.event.data.as_text() }),
    );
    let events: Vec<_> = events.collect();
    let resumption = resumed(past.resumption);
    Response::text(
        json!({ "events": events, "resumption": resumption, "last": past.last_id }).to_string(),
    )
}

fn read(request: &Request) -> hub::History {
    let history = hub::history().subscription(subscription(request));
    match one(request, "start") {
        Some(_) => history.start(start(request)),
        None => history.earliest(),
    }
}

async fn history(request: Request) -> Result<Response, Error> {
    let history = match number(&request, "limit") {
        Some(limit) => read(&request).limit(u32::try_from(limit)?),
        None => read(&request),
    };
    Ok(past(history.read()?))
}

async fn wait(request: Request) -> Result<Response, Error> {
    let timeout = milliseconds(&request, "timeout").unwrap_or(Duration::from_secs(20));
    Ok(past(read(&request).wait(timeout).await?))
}

/// `count` events of `size` bytes; what came of it is published to `report`.
async fn emit(request: Request) -> Result<Response, Error> {
    let count = number(&request, "count").unwrap_or(3);
    let size = usize::try_from(number(&request, "size").unwrap_or(0))?;
    let report = one(&request, "report");
    let waits = one(&request, "waits").is_some();
    sse::emit(&request).run(async move |mut events| {
        let mut sent = 0;
        let mut closed = false;
        while sent < count {
            match events.send(Event::new(format!("{sent}{}", "x".repeat(size)))).await {
                Ok(()) => sent += 1,
                Err(EmitError::Closed) => {
                    closed = true;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if waits && !closed {
            events.closed().await;
            closed = events.is_closed();
        }
        if let Some(topic) = report {
            hub::publish(topic, Event::new(format!("sent={sent} closed={closed}"))).await?;
        }
        Ok(())
    })
}

async fn subscribers(request: Request) -> Result<Response, Error> {
    let within = one(&request, "within").unwrap_or_default();
    let listed = hub::subscribers(&within)?
        .into_iter()
        .map(|subscriber| json!({ "id": subscriber.id, "attributes": subscriber.attributes }));
    Ok(Response::text(Value::from(listed.collect::<Vec<_>>()).to_string()))
}

async fn count(request: Request) -> Result<Response, Error> {
    let topic = one(&request, "topic").unwrap_or_default();
    Ok(Response::text(hub::subscriber_count(&topic)?.to_string()))
}

async fn position(_request: Request) -> Result<Response, Error> {
    Ok(Response::text(hub::position()))
}
