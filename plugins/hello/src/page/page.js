"use strict";

const at = (id) => document.getElementById(id);

const NAMES = {
  tls_version: "TLS",
  cipher: "cipher suite",
  alpn: "negotiated by ALPN",
  sni: "server name asked for",
  early_data: "sent as early data (0-RTT)",
  peer: "your address",
  connection_id: "connection",
  requests: "requests on it, this one included",
  request_id: "this request",
  route: "answered by route",
};

function show(facts) {
  at("protocol").textContent = facts.protocol ?? "Connection";
  at("facts").replaceChildren(...Object.entries(NAMES).map(([key, name]) => {
    const row = document.createElement("div");
    const term = document.createElement("dt");
    const value = document.createElement("dd");
    term.textContent = name;
    const fact = facts[key];
    value.textContent = fact === true ? "yes" : fact === false ? "no" : fact ?? "none";
    value.className = fact === null ? "none" : "";
    row.append(term, value);
    return row;
  }));
}

at("again").addEventListener("click", async () => {
  try {
    const response = await fetch("/protocol", { cache: "no-store", headers: { accept: "application/json" } });
    show(await response.json());
    at("state").textContent = `asked at ${new Date().toLocaleTimeString()}`;
  } catch (error) {
    at("state").textContent = error.message;
  }
});
show(JSON.parse(at("data").textContent));
