// One room at a time over /ws/chat; what was said before comes from /api/chat/{room}/messages.
const byId = (id) => document.getElementById(id);
const [door, room, name, state, log, say, text, send] =
  ["door", "room", "name", "state", "log", "say", "text", "send"].map(byId);

const names = ["Ada", "Grace", "Linus", "Edsger", "Barbara", "Dennis", "Radia", "Ken"];
name.value = `${names[Math.floor(Math.random() * names.length)]}${Math.floor(Math.random() * 90) + 10}`;

let socket = null;
let wanted = null;
let pause = 500;

function show(what, own) {
  const item = document.createElement("li");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  if (what.type === "message") {
    const head = document.createElement("b");
    const time = document.createElement("time");
    time.textContent = new Date(what.timestamp).toLocaleTimeString();
    head.append(what.from, time);
    item.append(head, what.message);
    item.className = own ? "own" : "";
  } else {
    const words = { join: "has come in", leave: "has left", error: "" };
    item.className = "note";
    item.textContent = what.type === "error" ? what.message : `${what.from} ${words[what.type]}`;
  }
  log.append(item);
  while (log.children.length > 500) log.firstChild.remove();
  if (atEnd || own) log.scrollTop = log.scrollHeight;
}

function tell(open, words) {
  state.dataset.state = open ? "open" : "closed";
  state.textContent = words;
  text.disabled = send.disabled = !open;
}

async function enter(again) {
  const here = { room: room.value, name: name.value };
  wanted = here;
  socket?.close(1000);
  tell(false, "connecting …");
  const query = new URLSearchParams(here);
  const opened = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/chat?${query}`);
  socket = opened;
  if (!again) {
    log.replaceChildren();
    const past = await fetch(`/api/chat/${encodeURIComponent(here.room)}/messages`);
    if (past.ok) for (const message of await past.json()) show(message, message.from === here.name);
  }
  opened.onopen = () => {
    pause = 500;
    tell(true, `in ${here.room} as ${here.name}`);
    text.focus();
  };
  if (opened.readyState === WebSocket.OPEN) opened.onopen();
  opened.onmessage = (event) => show(JSON.parse(event.data), false);
  opened.onclose = (event) => {
    if (socket !== opened || wanted !== here) return;
    tell(false, `disconnected (${event.code}), coming back …`);
    setTimeout(() => wanted === here && enter(true), pause);
    pause = Math.min(pause * 2, 10_000);
  };
}

door.addEventListener("submit", (event) => {
  event.preventDefault();
  enter(false);
});

say.addEventListener("submit", (event) => {
  event.preventDefault();
  const message = text.value.trim();
  if (!message || socket?.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify({ message }));
  // The server gives a message to everybody but its sender.
  show({ type: "message", from: name.value, message, timestamp: Date.now() }, true);
  text.value = "";
});
