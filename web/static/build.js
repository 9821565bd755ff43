// Follows a build: its log by server-sent events, the rest of the page by asking again.

import { lineElement } from "./logtext.js";
import { fetchPart, replace, whileSeen } from "./refresh.js";
import { messages } from "./stream.js";

const parts = ["summary", "steps", "attempts"];
const mostLines = 5000;
const settle = 400;
const icon = document.getElementById("favicon");
const log = document.getElementById("log");
const pill = document.getElementById("follow");

const active = () => document.getElementById("summary").dataset.active === "yes";

// --- the page but for its log ------------------------------------------------------------------

async function refresh() {
  const fresh = await fetchPart("live", location.pathname);
  if (!fresh) return;
  for (const id of parts) {
    const next = fresh.getElementById(id);
    if (next) replace(document.getElementById(id), next);
  }
  const summary = document.getElementById("summary");
  if (document.title !== summary.dataset.title) document.title = summary.dataset.title;
  if (icon.getAttribute("href") !== summary.dataset.icon) icon.href = summary.dataset.icon;
}

let refreshing = 0;
function refreshSoon() {
  refreshing ||= setTimeout(() => { refreshing = 0; refresh(); }, settle);
}

// --- the log -----------------------------------------------------------------------------------

let next = Number(log.dataset.next);
let rest = "";
let waiting = [];
let unseenLines = 0;
let place = log.dataset.place;

const atBottom = () => window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 48;

function showPill() {
  pill.hidden = unseenLines === 0;
  pill.textContent = unseenLines === 1 ? "1 new line ↓" : `${unseenLines} new lines ↓`;
}

function flush() {
  const lines = document.getElementById("lines");
  const followed = atBottom();
  const added = waiting.slice(-mostLines);
  next += waiting.length - added.length;
  waiting = [];
  lines.append(...added.map((raw) => lineElement(next++, raw)));
  document.getElementById("log-none")?.remove();
  document.getElementById("log-range").hidden = false;
  for (const id of ["log-last", "log-total"]) document.getElementById(id).textContent = next - 1;
  if (followed) {
    while (lines.childElementCount > mostLines) lines.firstElementChild.remove();
    document.getElementById("log-first").textContent = lines.firstElementChild.id.slice(1);
    window.scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
  } else {
    unseenLines += added.length;
    showPill();
  }
}

function take(text) {
  const pieces = (rest + text).split("\n");
  rest = pieces.pop();
  if (pieces.length === 0) return;
  if (waiting.length === 0) setTimeout(flush, 100);
  waiting.push(...pieces);
}

// An event's id says how far the log was read: part, attempt, byte, event (web/stream.py).
const attemptOf = (id) => id.split(".").slice(0, 2).join(".");

// Another attempt has a log of its own: begin again with it.
function turnTo(id) {
  if (place && attemptOf(place) !== attemptOf(id)) {
    document.getElementById("lines").replaceChildren();
    next = 1;
    rest = "";
    waiting = [];
  }
  place = id;
}

function hear({ event, data, id }) {
  if (id) turnTo(id);
  if (event === "log") take(JSON.parse(data).text);
  else if (event === "step" || event === "status" || event === "done") refreshSoon();
  if (event === "done" && rest) take("\n");
  return event === "done";
}

// One look at the log, for when no stream is to be had.
async function look() {
  const response = await fetch(`${log.dataset.log}?from=${next + waiting.length}`);
  if (!response.ok) return;
  const text = await response.text();
  rest = "";
  take(text.slice(0, text.lastIndexOf("\n") + 1));
}

const pause = (milliseconds) => new Promise((done) => { setTimeout(done, milliseconds); });

// Not an EventSource: that cannot say from which place of the log to begin.
async function follow(address) {
  let over = false;
  while (!over && active()) {
    try {
      const headers = place ? { "Last-Event-ID": place } : {};
      const response = await fetch(address, { headers });
      if (response.ok) {
        for await (const message of messages(response.body)) over = hear(message) || over;
      } else {
        await look();
      }
    } catch {
      // The farm restarts, or the network sleeps: come back to the same place.
    }
    if (!over) await pause(2000);
  }
}

pill.addEventListener("click", () => {
  unseenLines = 0;
  showPill();
  window.scrollTo({ top: document.documentElement.scrollHeight });
});
window.addEventListener("scroll", () => {
  if (unseenLines && atBottom()) { unseenLines = 0; showPill(); }
}, { passive: true });

// A line's number gives its lasting address without loading the page again.
log.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest(".line > a") : null;
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.replaceState(null, "", link.getAttribute("href"));
  location.replace(link.hash);
});

const named = /^#L(\d+)$/.exec(location.hash);
if (named && !document.getElementById(location.hash.slice(1)) && !location.search) {
  location.replace(`?line=${named[1]}${location.hash}`);
} else if (active()) {
  if (log.dataset.events) follow(log.dataset.events);
  whileSeen(async () => { if (active()) await refresh(); }, () => (log.dataset.events ? 10000 : 4000));
}
