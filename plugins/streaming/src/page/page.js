/** Runs `work` at a click on `start`, once at a time, until it ends or `stop` is clicked. */
function run(start, stop, work, failed) {
  start.addEventListener("click", async () => {
    const aborter = new AbortController();
    const abort = () => aborter.abort();
    start.disabled = true;
    if (stop) {
      stop.disabled = false;
      stop.addEventListener("click", abort, { once: true });
    }
    try {
      await work(aborter.signal);
    } catch (error) {
      failed(error.name === "AbortError" ? "stopped" : error.message);
    }
    start.disabled = false;
    if (stop) {
      stop.disabled = true;
      stop.removeEventListener("click", abort);
    }
  });
}

const streamLines = at("stream-lines");
run(at("stream-start"), null, async () => {
  streamLines.replaceChildren();
  const begun = performance.now();
  const response = await open("/api/stream");
  await parts(response, "\n", (line) => {
    const milliseconds = Math.round(performance.now() - begun);
    append(streamLines, `${String(milliseconds).padStart(5)} ms  ${line}`);
  });
}, (message) => append(streamLines, message));

const longBar = at("long-bar");
const longState = at("long-state");
run(at("long-start"), at("long-stop"), async (signal) => {
  longBar.value = 0;
  longState.textContent = "started";
  await parts(await open("/long", { signal }), "\n", (line) => {
    longState.textContent = line;
    longBar.value = Number(/(\d+)%/.exec(line)?.[1] ?? 0);
  });
  longState.textContent = "done";
}, (message) => { longState.textContent = message; });

const chunks = at("chunks");
/** Shows when each chunk of `path` arrives. */
const chunksOf = (path) => async () => {
  chunks.replaceChildren();
  const begun = performance.now();
  append(chunks, `       GET ${path}`);
  await parts(await open(path), "\n", (line) => {
    const milliseconds = Math.round(performance.now() - begun);
    append(chunks, `${String(milliseconds).padStart(5)} ms  ${line}`);
  });
};
const chunksFailed = (message) => append(chunks, message);
run(at("flush-start"), null, chunksOf("/flush"), chunksFailed);
run(at("buffered-start"), null, chunksOf("/buffered"), chunksFailed);

const deadlineLines = at("deadline-lines");
run(at("deadline-start"), null, async () => {
  deadlineLines.replaceChildren();
  const begun = performance.now();
  const query = new URLSearchParams({ ms: at("deadline-ms").value });
  const work = at("deadline-work").value.trim();
  if (work) query.set("work", work);
  const response = await open(`/deadline?${query}`);
  try {
    await parts(response, "\n", (line) => append(deadlineLines, line));
    append(deadlineLines, "complete");
  } catch (error) {
    const milliseconds = Math.round(performance.now() - begun);
    append(deadlineLines, `cut off after ${milliseconds} ms: ${error.message}`);
  }
}, (message) => append(deadlineLines, message));

const image = at("image");
const imageState = at("image-state");
run(at("image-start"), null, async () => {
  const begun = performance.now();
  imageState.textContent = "loading";
  image.hidden = false;
  // Another address each time: the browser would show the picture that it has.
  image.src = `/image/progressive?at=${Date.now()}`;
  await new Promise((resolve, reject) => {
    image.onload = resolve;
    image.onerror = () => reject(new Error("the image did not load"));
  });
  imageState.textContent = `loaded in ${((performance.now() - begun) / 1000).toFixed(1)} s`;
}, (message) => { imageState.textContent = message; });

const bulkState = at("bulk-state");
const bulkEvents = at("bulk-events");
run(at("bulk-start"), null, async () => {
  bulkEvents.replaceChildren();
  bulkState.textContent = "sent";
  const headers = { "content-type": "application/json" };
  const body = at("bulk-items").value;
  await parts(await open("/api/bulk-process", { method: "POST", headers, body }), "\n\n", (text) => {
    const [, name, json] = /^event: (.*)\ndata: (.*)$/.exec(text);
    const data = JSON.parse(json);
    if (name === "started") bulkState.textContent = `0 of ${data.total}`;
    if (name === "completed") {
      bulkState.textContent = `${data.succeeded} succeeded, ${data.failed} failed`;
    }
    if (name !== "success" && name !== "error") return;
    const item = document.createElement("li");
    item.className = name;
    item.textContent = name === "success"
      ? `${data.index}: ${JSON.stringify(data.id)} ${data.sha256.slice(0, 16)}…`
      : `${data.index}: ${data.message}`;
    bulkEvents.append(item);
  });
}, (message) => { bulkState.textContent = message; });

const tailLines = at("tail-lines");
run(at("tail-start"), at("tail-stop"), async (signal) => {
  tailLines.replaceChildren();
  const name = encodeURIComponent(at("tail-name").value);
  await parts(await open(`/logs/tail?name=${name}`, { signal }), "\n",
    (line) => append(tailLines, line));
}, (message) => append(tailLines, message));

const connections = at("connections");
async function count() {
  try {
    const states = await (await open("/connections")).json();
    connections.replaceChildren(...Object.entries(states).flatMap(([name, number]) => {
      const term = document.createElement("dt");
      const value = document.createElement("dd");
      term.textContent = name;
      value.textContent = number;
      return [term, value];
    }));
  } catch (error) {
    connections.textContent = error.message;
  }
  setTimeout(count, 1000);
}
count();
