"use strict";

const at = (id) => document.getElementById(id);
const list = at("list");
let source;

function tell(name, text) {
  at("state").className = `state ${name}`;
  at("state").textContent = text;
}

const problem = async (response) => (await response.json().catch(() => ({}))).detail ?? response.status;

const json = (content) => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify(content),
});

function show({ type, message, created_at }, isNew) {
  list.querySelector(".none")?.remove();
  const line = document.createElement("li");
  if (isNew) line.className = "new";
  const [kind, text, when] = ["b", "span", "time"].map((name) => document.createElement(name));
  kind.textContent = type;
  if (["success", "warning", "error"].includes(type)) kind.className = type;
  text.textContent = message;
  when.textContent = new Date(created_at).toLocaleString([], { dateStyle: "short", timeStyle: "medium" });
  line.append(kind, text, when);
  list.prepend(line);
  while (list.children.length > 100) list.lastChild.remove();
}

// What is kept, and from there on what comes: no gap, and nothing twice.
async function begin() {
  source?.close();
  const response = await fetch("/api/notifications", { cache: "no-store" });
  if (response.status === 401) return;
  if (!response.ok) return tell("lost", `${await problem(response)}`);
  const { user_id, last_id, notifications } = await response.json();
  at("whom").textContent = user_id;
  at("session-state").textContent = `This is what comes for ${user_id}.`;
  list.replaceChildren();
  for (const notification of notifications.reverse()) show(notification, false);
  if (notifications.length === 0) {
    const none = document.createElement("li");
    none.className = "none";
    none.textContent = "Nothing yet. Send yourself something.";
    list.append(none);
  }
  source = new EventSource(`/sse/notifications?lastEventId=${encodeURIComponent(last_id)}`);
  source.addEventListener("connected", ({ data }) => {
    tell("open", JSON.parse(data).missed ? "connected; something may be missing" : "connected");
  });
  source.addEventListener("notification", ({ data }) => show(JSON.parse(data), true));
  source.addEventListener("heartbeat", () => {
    at("beat").textContent = `heartbeat ${new Date().toLocaleTimeString()}`;
  });
  source.addEventListener("error", () => {
    const isOver = source.readyState === EventSource.CLOSED;
    tell("lost", isOver ? "refused" : "coming back");
  });
}

at("session").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const response = await fetch("/session", json({ user_id: at("user").value }));
  at("session-state").classList.toggle("error", !response.ok);
  if (!response.ok) {
    at("session-state").textContent = `${await problem(response)}`;
    return;
  }
  at("to").value = at("user").value;
  await begin();
});

at("send").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const content = { user_id: at("to").value, type: at("kind").value, message: at("message").value };
  const response = await fetch("/sse/notifications", json(content));
  at("send-state").classList.toggle("error", !response.ok);
  at("send-state").textContent = response.ok ? "sent" : `${await problem(response)}`;
  if (response.ok) at("message").value = "";
});

begin().catch((error) => tell("lost", error.message));
