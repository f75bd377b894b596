const bar = at("bar");
const state = at("state");
const again = at("again");
const stop = at("stop");
const journal = at("journal");

let stopped = new AbortController();

/** Work whose response nobody reads any more is over: closing the page does what `stop` does. */
async function work() {
  stopped = new AbortController();
  again.disabled = true;
  stop.disabled = false;
  bar.value = 0;
  state.textContent = "started";
  try {
    await parts(await open("/long", { signal: stopped.signal }), "\n", (line) => {
      state.textContent = line;
      bar.value = Number(/(\d+)%/.exec(line)?.[1] ?? 0);
    });
    state.textContent = "completed";
  } catch (error) {
    state.textContent = error.name === "AbortError" ? "stopped" : error.message;
  }
  again.disabled = false;
  stop.disabled = true;
}

/** Follows the journal, which the first work of all creates. */
async function follow() {
  try {
    await parts(await open("/logs/tail?name=long.log"), "\n", (line) => append(journal, line));
  } catch {
    // Tried again below: the server may be back by then.
  }
  setTimeout(follow, 1000);
}

again.addEventListener("click", work);
stop.addEventListener("click", () => stopped.abort());
// A page that comes back from the back/forward cache has lost its streams.
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
work();
follow();
