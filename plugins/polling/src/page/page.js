"use strict";

const at = (id) => document.getElementById(id);
const resource = "/api/realtime/poll/board";
const side = 24;
// A digit a square; 0 is empty.
const colours = ["", "#1c2330", "#e5484d", "#f5a524", "#30a46c", "#0b8fd9", "#8e4ec6", "#ffffff"];
const empty = "0".repeat(side * side);

let pixels = empty;
let version = 0;
// Squares that were painted here and are not in an answer yet.
const painted = new Map();
let colour = 2;

const board = at("board");
const context = board.getContext("2d");

function draw() {
  const size = board.width / side;
  const style = getComputedStyle(document.documentElement);
  context.fillStyle = style.getPropertyValue("--page");
  context.fillRect(0, 0, board.width, board.height);
  for (let i = 0; i < side * side; i++) {
    const digit = painted.get(i) ?? Number(pixels[i]);
    const [x, y] = [(i % side) * size, Math.floor(i / side) * size];
    if (digit > 0) {
      context.fillStyle = colours[digit];
      context.fillRect(x, y, size, size);
    } else {
      context.fillStyle = style.getPropertyValue("--line");
      context.fillRect(x + size / 2 - 1, y + size / 2 - 1, 2, 2);
    }
  }
}

function told(text, isError = false) {
  at("state").textContent = text;
  at("state").classList.toggle("error", isError);
}

function note(text) {
  const line = document.createElement("li");
  line.textContent = `${new Date().toLocaleTimeString()}  ${text}`;
  at("log").prepend(line);
  while (at("log").children.length > 12) at("log").lastChild.remove();
}

// What is painted goes out together, one PUT at a time.
let sending = false;
let sent = 0;
async function send() {
  if (sending || painted.size === 0) return;
  sending = true;
  try {
    while (painted.size > 0) {
      const squares = [...pixels];
      const these = [...painted];
      for (const [i, digit] of these) squares[i] = digit;
      const content = squares.join("");
      sent = performance.now();
      const response = await fetch(resource, {
        method: "PUT",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ pixels: content }),
      });
      if (!response.ok) throw new Error(`${response.status} ${(await response.json()).detail ?? ""}`);
      if (Number(response.headers.get("x-current-version")) >= version) pixels = content;
      for (const [i, digit] of these) if (painted.get(i) === digit) painted.delete(i);
    }
    told("");
  } catch (error) {
    told(`not painted: ${error.message}`, true);
    painted.clear();
  }
  sending = false;
  draw();
}

function paint(event) {
  const box = board.getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) / box.width) * side);
  const y = Math.floor(((event.clientY - box.top) / box.height) * side);
  if (x < 0 || y < 0 || x >= side || y >= side) return;
  const i = y * side + x;
  if ((painted.get(i) ?? Number(pixels[i])) === colour) return;
  painted.set(i, colour);
  draw();
  send();
}

board.addEventListener("pointerdown", (event) => {
  board.setPointerCapture(event.pointerId);
  paint(event);
});
board.addEventListener("pointermove", (event) => {
  if (event.buttons > 0) paint(event);
});
at("clear").addEventListener("click", () => {
  for (let i = 0; i < side * side; i++) painted.set(i, 0);
  draw();
  send();
});

function choose(button, digit) {
  for (const other of at("palette").children) other.setAttribute("aria-checked", other === button);
  colour = digit;
}
for (const digit of [2, 3, 4, 5, 6, 1, 7, 0]) {
  const button = document.createElement("button");
  button.setAttribute("role", "radio");
  button.setAttribute("aria-label", digit === 0 ? "Rubber" : `Colour ${digit}`);
  button.title = digit === 0 ? "Rubber" : "";
  button.textContent = digit === 0 ? "×" : "";
  if (digit > 0) button.style.background = colours[digit];
  button.addEventListener("click", () => choose(button, digit));
  at("palette").append(button);
  if (digit === colour) choose(button, digit);
}

// The polls: each one says which version is here, and is answered with a newer one.
const counts = { changes: 0, quiet: 0 };
let begun = 0;
async function poll() {
  for (;;) {
    begun = performance.now();
    try {
      const response = await fetch(`${resource}?timeout=25`, {
        cache: "no-store",
        headers: { "x-last-version": String(version) },
      });
      if (response.status === 204) {
        counts.quiet += 1;
      } else if (response.ok) {
        const content = await response.json();
        version = Number(response.headers.get("x-current-version"));
        counts.changes += 1;
        const is = typeof content?.pixels === "string" && /^[0-7]{576}$/.test(content.pixels);
        pixels = is ? content.pixels : empty;
        if (sent > 0) {
          at("latency").textContent = `${Math.max(performance.now() - sent, 0.1).toFixed(1)} ms`;
          sent = 0;
        }
        note(`version ${version} after ${((performance.now() - begun) / 1000).toFixed(1)} s`);
        draw();
      } else {
        throw new Error(`${response.status}`);
      }
      at("version").textContent = version;
      at("changes").textContent = counts.changes;
      at("quiet").textContent = counts.quiet;
    } catch (error) {
      told(`the poll failed: ${error.message}; again in two seconds`, true);
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
}

setInterval(() => {
  at("waiting").textContent = `${((performance.now() - begun) / 1000).toFixed(1)} s`;
}, 100);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();
poll();
