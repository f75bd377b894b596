"use strict";

const at = (id) => document.getElementById(id);

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? count : count.toFixed(count < 10 ? 2 : 1)} ${units[unit]}`;
}

const reason = (status, text) => {
  try {
    const problem = JSON.parse(text);
    return `${status} ${problem.detail ?? problem.title}`;
  } catch {
    return `${status}`;
  }
};

function tell(element, text, isError = false) {
  element.textContent = text;
  element.classList.toggle("error", isError);
}

// Upload: XMLHttpRequest, because fetch tells nothing of how far a body is on its way.
const uploadBar = at("upload-bar");
const uploadState = at("upload-state");
const uploadStop = at("upload-stop");

function upload(file) {
  const request = new XMLHttpRequest();
  const begun = performance.now();
  const stop = () => request.abort();
  uploadBar.value = 0;
  uploadStop.disabled = false;
  uploadStop.addEventListener("click", stop);
  request.upload.addEventListener("progress", ({ loaded, total }) => {
    const seconds = Math.max((performance.now() - begun) / 1000, 0.001);
    uploadBar.value = total > 0 ? loaded / total : 1;
    tell(uploadState, `${file.name}: ${bytes(loaded)} of ${bytes(total)}, ${bytes(loaded / seconds)} a second`);
  });
  request.addEventListener("load", () => {
    if (request.status === 201) {
      uploadBar.value = 1;
      tell(uploadState, `${file.name}: kept at ${request.getResponseHeader("location")}`);
      list();
    } else {
      tell(uploadState, `${file.name}: ${reason(request.status, request.responseText)}`, true);
    }
  });
  request.addEventListener("error", () => tell(uploadState, `${file.name}: the connection broke`, true));
  request.addEventListener("abort", () => tell(uploadState, `${file.name}: stopped`));
  request.addEventListener("loadend", () => {
    uploadStop.disabled = true;
    uploadStop.removeEventListener("click", stop);
  });
  request.open("POST", `/download?name=${encodeURIComponent(file.name)}`);
  request.setRequestHeader("content-type", "application/octet-stream");
  tell(uploadState, `${file.name}: sending`);
  request.send(file);
}

const input = at("file");
input.addEventListener("change", () => {
  if (input.files.length > 0) upload(input.files[0]);
  // The same file can be chosen again.
  input.value = "";
});
const drop = at("drop");
for (const name of ["dragover", "dragleave", "drop"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length > 0) upload(event.dataTransfer.files[0]);
  });
}

// The files.
function link(text, href, saves) {
  const made = document.createElement("a");
  made.textContent = text;
  made.href = href;
  if (saves) made.download = "";
  return made;
}

function item(kept) {
  const made = document.createElement("li");
  const size = document.createElement("span");
  size.className = "size";
  size.textContent = `${bytes(kept.size)}, ${new Date(kept.uploaded * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" })}`;
  const once = link("once", `${kept.location}?once=1`, true);
  once.addEventListener("click", () => setTimeout(list, 1500));
  const remove = document.createElement("button");
  remove.className = "link";
  remove.textContent = "delete";
  remove.addEventListener("click", async () => {
    await fetch(kept.location, { method: "DELETE" });
    list();
  });
  const actions = [once, remove];
  if (/\.(mp4|m4v)$/i.test(kept.name)) {
    const play = document.createElement("button");
    play.className = "link";
    play.textContent = "play";
    play.addEventListener("click", () => {
      video.src = `/stream-video/${kept.id}`;
      video.play().catch(() => {});
      video.scrollIntoView({ block: "nearest" });
    });
    actions.unshift(play);
  }
  made.append(link(kept.name, kept.location, true), size, ...actions);
  return made;
}

async function list() {
  const files = at("files");
  try {
    const response = await fetch("/download", { cache: "no-store" });
    if (!response.ok) throw new Error(reason(response.status, await response.text()));
    const all = await response.json();
    files.replaceChildren(...all.map(item));
    if (all.length === 0) {
      const none = document.createElement("li");
      none.className = "none";
      none.textContent = "nothing yet";
      files.append(none);
    }
  } catch (error) {
    files.textContent = error.message;
  }
}

// The video, and what the browser has of it.
const video = at("video");
function loaded() {
  const parts = [];
  for (let i = 0; i < video.buffered.length; i++) {
    parts.push(`${video.buffered.start(i).toFixed(1)} to ${video.buffered.end(i).toFixed(1)} s`);
  }
  at("video-state").textContent = parts.length > 0 ? `loaded: ${parts.join(", ")}` : "";
}
for (const name of ["progress", "seeked", "timeupdate", "loadedmetadata"]) video.addEventListener(name, loaded);
video.addEventListener("error", () => tell(at("video-state"), "this browser cannot play it", true));

// The limited download: what arrives is counted and thrown away.
const limitedBar = at("limited-bar");
const limitedState = at("limited-state");
const start = at("limited-start");
const stop = at("limited-stop");

async function ask(signal) {
  while (!signal.aborted) {
    const begun = performance.now();
    await fetch("/download", { cache: "no-store", signal });
    at("other").textContent = `${Math.round(performance.now() - begun)} ms`;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

start.addEventListener("click", async () => {
  const stopped = new AbortController();
  const done = new AbortController();
  const abort = () => stopped.abort();
  start.disabled = true;
  stop.disabled = false;
  stop.addEventListener("click", abort);
  limitedBar.value = 0;
  tell(limitedState, "started");
  ask(done.signal).catch(() => {});
  try {
    const { signal } = stopped;
    const response = await fetch(`/download/limited?rate=${at("rate").value}`, { cache: "no-store", signal });
    if (!response.ok) throw new Error(reason(response.status, await response.text()));
    const total = Number(response.headers.get("content-length"));
    const reader = response.body.getReader();
    const begun = performance.now();
    let received = 0;
    for (;;) {
      const { done: ended, value } = await reader.read();
      if (ended) break;
      received += value.length;
      const seconds = (performance.now() - begun) / 1000;
      limitedBar.value = received / total;
      if (seconds > 0.5) at("measured").textContent = `${bytes(received / seconds)} a second`;
    }
    tell(limitedState, `${bytes(received)} in ${((performance.now() - begun) / 1000).toFixed(1)} s`);
  } catch (error) {
    const isStop = error.name === "AbortError";
    tell(limitedState, isStop ? "stopped" : error.message, !isStop);
  }
  done.abort();
  start.disabled = false;
  stop.disabled = true;
  stop.removeEventListener("click", abort);
});

list();
