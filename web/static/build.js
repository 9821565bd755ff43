// Follows a build: its log by server-sent events, the rest of the page by asking again.

import { lineElement } from "./logtext.js";
import { fetchPart, replace, whileSeen } from "./refresh.js";

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
let attempt = log.dataset.attempt;

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
  const last = document.getElementById("log-last");
  if (last) last.textContent = document.getElementById("log-total").textContent = String(next - 1);
  if (followed) {
    while (lines.childElementCount > mostLines) lines.firstElementChild.remove();
    const first = document.getElementById("log-first");
    if (first) first.textContent = lines.firstElementChild?.id.slice(1) ?? "1";
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

// Another attempt has a log of its own: begin again with it.
function turnTo(key) {
  if (attempt && attempt !== key) {
    document.getElementById("lines").replaceChildren();
    next = 1;
    rest = "";
    waiting = [];
  }
  attempt = key;
}

function follow(address) {
  const source = new EventSource(address);
  source.addEventListener("log", (event) => {
    turnTo(event.lastEventId.split(".").slice(0, 2).join("."));
    take(JSON.parse(event.data).text);
  });
  source.addEventListener("step", refreshSoon);
  source.addEventListener("status", refreshSoon);
  source.addEventListener("done", () => {
    source.close();
    if (rest) take("\n");
    refreshSoon();
  });
  window.addEventListener("pagehide", () => source.close());
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
