"use strict";

const at = (id) => document.getElementById(id);

function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}

// A card that follows its job by an event stream of its own until that ends.
function show({ job_id, name, status }, isFirst) {
  const card = element("section");
  const picture = element("img");
  picture.alt = `What "${name}" looks like`;
  const inner = element("div");
  const title = element("h2");
  const state = element("small", status);
  title.append(element("span", name), state);
  const bar = element("progress");
  bar.max = 100;
  bar.value = 0;
  bar.setAttribute("aria-label", `Progress of ${name}`);
  const line = element("p");
  const message = element("span");
  const cancel = element("button", "Cancel");
  cancel.addEventListener("click", () => fetch(`/jobs/${job_id}`, { method: "DELETE" }));
  line.append(message, cancel);
  inner.append(title, bar, line);
  card.append(picture, inner);
  if (isFirst) at("jobs").prepend(card);
  else at("jobs").append(card);

  // One picture at a time; the last one shows the last step.
  let wanted = 0;
  let loading = false;
  const draw = () => {
    if (loading) return;
    loading = true;
    const step = wanted;
    const next = () => {
      loading = false;
      if (wanted !== step) setTimeout(draw, 150);
    };
    picture.onload = next;
    picture.onerror = next;
    picture.src = `/jobs/${job_id}/result?step=${step}`;
  };

  const source = new EventSource(`/sse/progress/${job_id}`);
  source.addEventListener("progress", ({ data }) => {
    const now = JSON.parse(data);
    bar.value = now.progress;
    card.className = now.status;
    state.textContent = now.status === "running" ? `${now.progress} %` : now.status;
    message.textContent = now.message;
    cancel.hidden = now.status === "completed" || now.status === "failed";
    wanted = now.step;
    draw();
  });
  source.addEventListener("close", () => {
    source.close();
    // Only now the last step is sure to be kept.
    wanted = "end";
    draw();
  });
  source.addEventListener("error", ({ data }) => {
    if (data === undefined) return;
    source.close();
    message.textContent = JSON.parse(data).error;
  });
}

at("start").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const name = at("name").value;
  const response = await fetch("/jobs", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name, steps: Number(at("steps").value) }),
  });
  const told = await response.json();
  at("state").textContent = response.ok ? "" : told.detail;
  if (response.ok) show({ job_id: told.job_id, name: name.trim(), status: "pending" }, true);
});

// Over HTTP/1.1 a browser has few connections: only what is under way, and some of what was.
const response = fetch("/jobs", { headers: { accept: "application/json" }, cache: "no-store" });
response.then(async (answer) => {
  const jobs = await answer.json();
  for (const job of jobs.slice(0, 12)) show(job, false);
}).catch((error) => {
  at("state").textContent = error.message;
});
