"use strict";

const at = (id) => document.getElementById(id);
const rows = new Map();
let updates = 0;
const rates = [];

const dollars = (price) => price.toFixed(2);
const isOver = ({ status }) => status === "filled" || status === "cancelled";

function cell(row, text, name) {
  const made = row.insertCell();
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

function show(order) {
  let row = rows.get(order.id);
  if (!row) {
    row = at("book").insertRow(0);
    cell(row, order.id);
    cell(row, order.symbol);
    cell(row, order.side, order.side);
    cell(row, order.quantity, "right");
    cell(row, dollars(order.price), "right");
    const bar = document.createElement("progress");
    bar.max = order.quantity;
    cell(row, "").append(bar);
    cell(row, "");
    const cancel = document.createElement("button");
    cancel.textContent = "Cancel";
    cancel.setAttribute("aria-label", `Cancel order ${order.id}`);
    cancel.addEventListener("click", () => fetch(`/api/trading/orders/${order.id}`, { method: "DELETE" }));
    cell(row, "").append(cancel);
    rows.set(order.id, row);
  }
  row.querySelector("progress").value = order.filled;
  row.cells[6].textContent = order.status === "partial" ? `${Math.floor((100 * order.filled) / order.quantity)} %` : order.status;
  if (isOver(order)) {
    row.className = "over";
    row.querySelector("button").disabled = true;
    // Over: it sinks below the open ones, and out.
    at("book").append(row);
    while (at("book").rows.length > 30) {
      const last = at("book").rows[at("book").rows.length - 1];
      rows.delete(Number(last.cells[0].textContent));
      last.remove();
    }
  }
}

function tick(order) {
  const made = document.createElement("span");
  made.className = order.side;
  made.textContent = `${order.symbol} ${order.side === "buy" ? "▲" : "▼"} ${dollars(order.price)} × ${order.filled}/${order.quantity}`;
  at("ticker").prepend(made);
  while (at("ticker").children.length > 14) at("ticker").lastChild.remove();
}

function draw() {
  const canvas = at("chart");
  const scale = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth * scale, canvas.clientHeight * scale];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  context.clearRect(0, 0, width, height);
  context.fillStyle = style.getPropertyValue("--link");
  const most = Math.max(12, ...rates);
  const bar = width / 60;
  rates.forEach((rate, i) => {
    const tall = (rate / most) * (height - 4 * scale);
    context.fillRect(width - (rates.length - i) * bar, height - tall, bar - 2 * scale, tall);
  });
}

setInterval(() => {
  rates.push(updates);
  if (rates.length > 60) rates.shift();
  at("rate").textContent = updates;
  updates = 0;
  draw();
}, 1000);

// Updates that come while the book is read wait for it.
let waiting = [];
function take(order) {
  if (waiting) return waiting.push(order);
  show(order);
  tick(order);
}

const source = new EventSource("/api/trading/orders/stream");
source.addEventListener("open", async () => {
  at("state").className = "state open";
  at("state").textContent = "live";
  waiting ??= [];
  const orders = await (await fetch("/api/trading/orders", { cache: "no-store" })).json();
  at("book").replaceChildren();
  rows.clear();
  for (const order of orders.slice(0, 30).reverse()) show(order);
  const came = waiting;
  waiting = null;
  came.forEach(take);
});
source.addEventListener("error", () => {
  at("state").className = "state lost";
  at("state").textContent = source.readyState === EventSource.CLOSED ? "refused" : "coming back";
});
source.addEventListener("message", ({ data }) => {
  updates += 1;
  take(JSON.parse(data));
});

at("place").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const response = await fetch("/api/trading/orders", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      symbol: at("symbol").value,
      side: at("side").value,
      quantity: Number(at("quantity").value),
      price: Number(at("price").value),
    }),
  });
  const told = await response.json();
  at("placed").classList.toggle("error", !response.ok);
  at("placed").textContent = response.ok ? `order ${told.id} is open` : told.detail;
});
draw();
