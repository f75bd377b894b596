"use strict";

// When each resource of this page came, from the browser's own record of it (Resource Timing). The
// font comes last: the style asks for it.
const at = (id) => document.getElementById(id);
const milliseconds = (time) => `${Math.round(time)} ms`;

const HOW = {
  "early-hints": "early hint",
  link: "the page's head",
  script: "the page's head",
  css: "the style",
  navigation: "the page",
};

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function row({ name, how, kind, begin, end }, total) {
  const made = element("tr", kind);
  const bar = element("div", "bar");
  bar.style.left = `${(100 * begin) / total}%`;
  bar.style.width = `${(100 * (end - begin)) / total}%`;
  const track = element("div", "track");
  track.append(bar);
  const fetched = element("td");
  fetched.append(track, element("span", "times", `${milliseconds(begin)} to ${milliseconds(end)}`));
  const resource = element("td");
  resource.append(element("code", "", name));
  made.append(resource, element("td", "", how), fetched);
  return made;
}

function show() {
  const [page] = performance.getEntriesByType("navigation");
  const arrived = page.finalResponseHeadersStart || page.responseStart;
  const resources = performance.getEntriesByType("resource")
    .filter((entry) => !entry.name.startsWith("data:"))
    .map((entry) => ({
      name: new URL(entry.name).pathname,
      how: HOW[entry.initiatorType] ?? entry.initiatorType,
      // What was asked for before there was a page, whatever the browser calls it.
      kind: entry.startTime < arrived ? "early" : "late",
      begin: entry.startTime,
      end: entry.responseEnd,
    }));
  const rows = [
    { name: location.pathname, how: HOW.navigation, kind: "page", begin: page.requestStart, end: page.responseEnd },
    ...resources.sort((a, b) => a.begin - b.begin),
  ];
  const total = Math.max(...rows.map((each) => each.end), 1);
  at("timeline").replaceChildren(...rows.map((each) => row(each, total)));
  at("end").textContent = milliseconds(total);
  const early = resources.filter((each) => each.kind === "early");
  at("verdict").textContent = early.length > 0
    ? `${early.length} of ${resources.length} were asked for before the page was there, at ${milliseconds(arrived)}.`
    : `Nothing was asked for before the page was there, at ${milliseconds(arrived)}.`;
}

addEventListener("load", () => document.fonts.ready.then(() => setTimeout(show)));
