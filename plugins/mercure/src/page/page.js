"use strict";

const HUB = "/.well-known/mercure";
const SUBSCRIPTIONS = `${HUB}/subscriptions`;
const MAX_SHOWN = 100;
const $ = (id) => document.getElementById(id);
const { key, audience, issuer } = $("settings").dataset;

let stream = null;
let presence = null;

function say(id, text, kind = "") {
  $(id).textContent = text;
  $(id).className = `state ${kind}`;
}

// --- the token

const base64url = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const encoded = (value) => base64url(new TextEncoder().encode(JSON.stringify(value)));
const words = (text) => text.split(/\s+/).filter(Boolean);

function matcher(text) {
  return isPattern(text) ? { match: text, match_type: "urlpattern" } : { match: text };
}

function isPattern(text) {
  return text !== "*" && /[:*(]/.test(text.replace(/^[a-z][a-z0-9+.-]*:\/\//i, ""));
}

function claims(version) {
  const exp = Math.floor(Date.now() / 1000) + Number($("lifetime").value || 3600);
  // Who is there is known to whoever may read everything.
  const publish = words($("may-publish").value);
  const subscribe = words($("may-read").value);
  if (version === "0") return { exp, mercure: { publish, subscribe, payload: { page: "/mercure" } } };
  const details = [];
  const type = "https://mercure.rocks/authorization-detail";
  if (publish.length) details.push({ type, actions: ["publish"], topics: publish.map(matcher) });
  if (subscribe.length) {
    details.push({ type, actions: ["subscribe"], topics: subscribe.map(matcher), payload: { page: "/mercure" } });
  }
  return { exp, aud: audience, ...(issuer && { iss: issuer }), sub: "page", authorization_details: details };
}

async function makeToken() {
  if (!key) return;
  const version = $("version").value;
  const header = version === "0" ? { alg: "HS256", typ: "JWT" } : { alg: "HS256", typ: "at+jwt" };
  const message = `${encoded(header)}.${encoded(claims(version))}`;
  const hmac = { name: "HMAC", hash: "SHA-256" };
  const bytes = new TextEncoder();
  const secret = await crypto.subtle.importKey("raw", bytes.encode(key), hmac, false, ["sign"]);
  const signature = await crypto.subtle.sign("HMAC", secret, bytes.encode(message));
  $("token").value = `${message}.${base64url(signature)}`;
  say("token-state", "made", "good");
}

async function tokenOrSay() {
  try {
    await makeToken();
  } catch {
    say("token-state", "A browser signs only on https:// and on localhost; paste a token instead.", "bad");
  }
  return $("token").value.trim();
}

// --- following

async function query() {
  const parameters = new URLSearchParams();
  const version = $("version").value;
  for (const line of $("topics").value.split("\n").map((line) => line.trim()).filter(Boolean)) {
    parameters.append(version === "0" ? "topic" : isPattern(line) ? "match_urlpattern" : "match", line);
  }
  if ($("earliest").checked) parameters.append(version === "0" ? "lastEventID" : "last_event_id", "earliest");
  if ($("with-token").checked) {
    const token = await tokenOrSay();
    if (token) parameters.append(version === "0" ? "authorization" : "access_token", token);
  }
  return parameters;
}

async function follow() {
  leave();
  const parameters = await query();
  const types = ["message", ...words($("type").value)];
  stream = new EventSource(`${HUB}?${parameters}`);
  $("leave").disabled = false;
  say("follow-state", "connecting");
  stream.onopen = () => say("follow-state", "following", "good");
  stream.onerror = async () => {
    if (!stream || stream.readyState !== EventSource.CLOSED) return say("follow-state", "connecting again");
    say("follow-state", await why(`${HUB}?${parameters}`), "bad");
  };
  for (const type of new Set(types)) stream.addEventListener(type, (event) => show(event));
  if ($("with-token").checked) watch(parameters);
}

// An EventSource does not say why it was refused.
async function why(url) {
  const gone = new AbortController();
  try {
    const answer = await fetch(url, { signal: gone.signal });
    if (answer.ok) return "ended";
    const problem = await answer.json().catch(() => ({}));
    return `${answer.status}: ${problem.detail ?? problem.title ?? "refused"}`;
  } catch (error) {
    return String(error);
  } finally {
    gone.abort();
  }
}

function leave() {
  stream?.close();
  presence?.close();
  stream = presence = null;
  $("leave").disabled = true;
  say("follow-state", "not following");
}

function item(parts, data, fresh = true) {
  const line = document.createElement("li");
  const meta = document.createElement("div");
  meta.className = "meta";
  for (const [text, tag] of parts) {
    const part = document.createElement(tag ? "b" : "span");
    if (tag) part.className = `tag ${tag}`;
    part.textContent = text;
    meta.append(part);
  }
  line.append(meta);
  if (data !== undefined) {
    const pre = document.createElement("pre");
    pre.textContent = data;
    line.append(pre);
  }
  if (fresh) line.className = "fresh";
  return line;
}

function show(event) {
  $("no-updates").hidden = true;
  const time = new Date().toLocaleTimeString();
  $("updates").prepend(item([[event.type, "on"], [time], [event.lastEventId]], event.data));
  while ($("updates").children.length > MAX_SHOWN) $("updates").lastChild.remove();
}

// --- publishing

async function publish() {
  const form = new URLSearchParams({ topic: $("topic").value, data: $("data").value });
  if ($("type").value) form.set("type", $("type").value);
  if ($("private").checked) form.set("private", "on");
  const token = await tokenOrSay();
  say("publish-state", "sending");
  try {
    const answer = await fetch(HUB, { method: "POST", body: form, headers: token ? { authorization: `Bearer ${token}` } : {} });
    const text = await answer.text();
    if (answer.ok) return say("publish-state", text, "good");
    const problem = JSON.parse(text);
    say("publish-state", `${answer.status}: ${problem.detail ?? problem.title}`, "bad");
  } catch (error) {
    say("publish-state", String(error), "bad");
  }
}

// --- who is there

function watch(parameters) {
  const token = parameters.get("access_token") ?? parameters.get("authorization");
  if (!token) return;
  const own = new URLSearchParams({ access_token: token });
  own.append("match_urlpattern", `${SUBSCRIPTIONS}/*`);
  presence = new EventSource(`${HUB}?${own}`);
  presence.onopen = refresh;
  presence.onmessage = (event) => {
    const { active, match, topic, subscriber } = JSON.parse(event.data);
    const known = [...$("subscribers").children].find((line) => line.dataset.id === subscriber + (match ?? topic));
    if (active && !known) $("subscribers").append(person(JSON.parse(event.data)));
    if (!active) known?.remove();
    count();
  };
}

function person(subscription) {
  const { match_type, match, topic, subscriber, payload } = subscription;
  const line = item([[match_type ?? "0.x", "on"], [match ?? topic], [subscriber]], payload && JSON.stringify(payload));
  line.dataset.id = subscriber + (match ?? topic);
  return line;
}

function count() {
  const subscriptions = $("subscribers").children.length;
  say("subscribers-state", subscriptions === 1 ? "1 subscription" : `${subscriptions} subscriptions`);
}

async function refresh() {
  const token = $("token").value.trim() || (await tokenOrSay());
  const answer = await fetch(SUBSCRIPTIONS, { headers: token ? { authorization: `Bearer ${token}` } : {} });
  if (!answer.ok) return say("subscribers-state", `${answer.status}: your token may not read this`, "bad");
  const { subscriptions } = await answer.json();
  $("subscribers").replaceChildren(...subscriptions.map(person));
  count();
}

if (!key) {
  $("token-note").textContent = "This hub has a key of its own: paste a token that somebody made with it.";
  document.querySelector("details").open = true;
  for (const id of ["may-publish", "may-read", "lifetime"]) $(id).disabled = true;
}
for (const id of ["version", "may-publish", "may-read", "lifetime"]) $(id).addEventListener("change", tokenOrSay);
$("follow").addEventListener("click", follow);
$("leave").addEventListener("click", leave);
$("publish").addEventListener("click", publish);
$("refresh").addEventListener("click", refresh);
tokenOrSay();
