"use strict";

// When each resource of this page came, from the browser's own record of it (Resource Timing). Of what
// was hinted at, that record tells only when the page took it from the cache.
const at = (id) => document.getElementById(id);
const milliseconds = (time) => `${Math.round(time)} ms`;

const HOW = {
  "early-hints": "early",
  link: "named in the page",
  script: "named in the page",
  css: "named in the style",
};

function element(name, className, ...content) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...content);
  return made;
}

function bar(className, begin, end, total) {
  const made = element("div", `bar ${className}`);
  made.style.left = `${(100 * begin) / total}%`;
  made.style.width = `${(100 * Math.max(0, end - begin)) / total}%`;
  return made;
}

function row({ name, how, kind, begin, end, hinted, needed }, total) {
  const track = element("div", "track");
  let times = `${milliseconds(begin)} to ${milliseconds(end)}`;
  if (hinted === undefined) {
    track.append(bar("", begin, end, total));
  } else {
    track.append(bar("ahead", hinted, needed, total), bar("", begin, end, total));
    times = `hinted at ${milliseconds(hinted)}, used from ${times}`;
  }
  return element("tr", kind,
    element("td", "", element("code", "", name)),
    element("td", "", how),
    element("td", "", track, element("span", "times", times)));
}

function show() {
  const [page] = performance.getEntriesByType("navigation");
  const arrived = page.finalResponseHeadersStart || page.responseStart;
  const hinted = page.firstInterimResponseStart || page.responseStart;
  const resources = performance.getEntriesByType("resource")
    .filter((entry) => !entry.name.startsWith("data:"))
    .map((entry) => {
      const isEarly = entry.initiatorType === "early-hints";
      return {
        name: new URL(entry.name).pathname,
        how: HOW[entry.initiatorType] ?? entry.initiatorType,
        kind: isEarly ? "early" : "late",
        begin: entry.startTime,
        end: entry.responseEnd,
        ...(isEarly && { hinted, needed: entry.startTime }),
      };
    });
  const rows = [
    { name: location.pathname, how: "the page", kind: "page", begin: page.requestStart, end: page.responseEnd },
    ...resources.sort((a, b) => a.begin - b.begin),
  ];
  const total = Math.max(...rows.map((each) => each.end), 1);
  at("timeline").replaceChildren(...rows.map((each) => row(each, total)));
  at("end").textContent = milliseconds(total);
  const early = resources.filter((each) => each.kind === "early").length;
  at("verdict").textContent = early > 0
    ? `${early} of ${resources.length} files came early: hinted at ${milliseconds(hinted)}, while the page took until ${milliseconds(arrived)}.`
    : `Nothing came early: the page was there at ${milliseconds(arrived)}, and only then were its files asked for.`;
}

addEventListener("load", () => document.fonts.ready.then(() => setTimeout(show)));
