"use strict";

const at = (id) => document.getElementById(id);

function shows(element, source, what) {
  const tell = (name, text) => {
    element.className = `state ${name}`;
    element.textContent = text;
  };
  source.addEventListener("open", () => tell("open", what));
  source.addEventListener("error", () => {
    const isOver = source.readyState === EventSource.CLOSED;
    tell("lost", isOver ? `${what}: refused` : `${what}: coming back`);
  });
}

// A line that moves: the newest value at the right end.
class Chart {
  constructor(name, digits, least) {
    Object.assign(this, { name, digits, least, values: [] });
    this.canvas = at(`${name}-chart`);
  }

  add(value) {
    this.values.push(value);
    if (this.values.length > 90) this.values.shift();
    at(this.name).textContent = value.toFixed(this.digits);
    this.draw();
  }

  draw() {
    const { canvas, values } = this;
    const scale = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth * scale, canvas.clientHeight * scale];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    const colour = (name) => getComputedStyle(canvas).getPropertyValue(name);
    const most = Math.max(this.least, ...values) * 1.15;
    const x = (i) => width - ((values.length - 1 - i) * width) / 89;
    const y = (value) => height - 2 * scale - (value / most) * (height - 6 * scale);
    context.clearRect(0, 0, width, height);
    context.strokeStyle = colour("--line");
    context.lineWidth = scale;
    context.beginPath();
    for (const part of [0.25, 0.5, 0.75, 1]) {
      context.moveTo(0, Math.round(height * part) - 0.5);
      context.lineTo(width, Math.round(height * part) - 0.5);
    }
    context.stroke();
    if (values.length === 0) return;
    context.beginPath();
    values.forEach((value, i) => context.lineTo(x(i), y(value)));
    context.strokeStyle = colour("--link");
    context.lineWidth = 2 * scale;
    context.lineJoin = "round";
    context.stroke();
    context.lineTo(width, height);
    context.lineTo(x(0), height);
    context.fillStyle = colour("--tint");
    context.fill();
    context.beginPath();
    context.arc(width - 3 * scale, y(values.at(-1)), 3 * scale, 0, 2 * Math.PI);
    context.fillStyle = colour("--link");
    context.fill();
  }
}

const charts = {
  cpu: new Chart("cpu", 1, 5),
  memory: new Chart("memory", 1, 1),
  requests: new Chart("requests", 1, 5),
  users: new Chart("users", 0, 4),
};

let metrics;
function follow() {
  metrics?.close();
  metrics = new EventSource(`/sse/live-metrics?interval=${at("interval").value}`);
  shows(at("metrics-state"), metrics, "live");
  metrics.addEventListener("metrics", ({ data }) => {
    const now = JSON.parse(data);
    charts.cpu.add(now.cpu);
    charts.memory.add(now.memory / (1 << 20));
    charts.requests.add(now.requests_per_second);
    charts.users.add(now.active_users);
  });
}
at("interval").addEventListener("change", follow);
follow();

at("load").addEventListener("click", async () => {
  at("load").disabled = true;
  for (let i = 0; i < 30; i++) {
    const ten = Array.from({ length: 10 }, () => fetch("/api/realtime/websocket/info", { cache: "no-store" }));
    await Promise.allSettled(ten);
  }
  at("load").disabled = false;
});

const time = new EventSource("/sse/time");
shows(at("clock-state"), time, "GET /sse/time");
time.addEventListener("message", ({ data }) => {
  at("clock").textContent = new Date(data).toLocaleTimeString();
});

const events = new EventSource("/api/realtime/events/stream");
shows(at("events-state"), events, "GET /api/realtime/events/stream");
events.addEventListener("message", ({ data }) => {
  const event = JSON.parse(data);
  const line = document.createElement("li");
  line.className = "new";
  const [topic, text, when] = ["b", "span", "time"].map((name) => document.createElement(name));
  topic.textContent = event?.topic ?? "event";
  text.textContent = event?.text ?? data;
  when.textContent = new Date().toLocaleTimeString();
  line.append(topic, text, when);
  at("events").querySelector(".none")?.remove();
  at("events").prepend(line);
  while (at("events").children.length > 20) at("events").lastChild.remove();
});
at("publish").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const response = await fetch("/api/realtime/events", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ topic: at("topic").value, text: at("text").value }),
  });
  if (response.ok) at("text").value = "";
  else at("events-state").textContent = (await response.json()).detail;
});

const redraw = () => Object.values(charts).forEach((chart) => chart.draw());
addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
redraw();
