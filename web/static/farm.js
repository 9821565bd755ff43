// What every page has: keys, copy buttons, relative times that stay true. Pages load it, and
// no module imports it: under two addresses it would be there twice.

import { wake } from "./copy.js";

const listRows = () => [...document.querySelectorAll("[data-row] .open")];

function typing(target) {
  return target instanceof Element && target.closest("input, select, textarea, [contenteditable]");
}

function step(rows, by) {
  const here = rows.indexOf(document.activeElement);
  const next = here < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, here + by));
  rows[next]?.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  if (event.key === "/") {
    const search = document.querySelector("[data-search]");
    if (!search) return;
    event.preventDefault();
    search.focus();
    search.select();
  } else if (event.key === "j") {
    step(listRows(), 1);
  } else if (event.key === "k") {
    step(listRows(), -1);
  }
});

// The same words as web/render.py writes: a page must not change what it says by being awake.
function ago(seconds) {
  if (seconds < 1) return "now";
  if (seconds < 90) return `${Math.floor(seconds)} s ago`;
  if (seconds < 90 * 60) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 36 * 3600) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} days ago`;
}

// How far this machine's clock is behind the farm's: a wrong clock must not make a build older.
const behind = Date.parse(document.documentElement.dataset.now) - Date.now() || 0;

function tick() {
  if (document.hidden) return;
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const seconds = (Date.now() + behind - Date.parse(time.dateTime)) / 1000;
    if (seconds >= 31 * 86400) continue;
    const text = ago(Math.max(0, seconds));
    if (time.textContent !== text) time.textContent = text;
  }
}

wake();
setInterval(tick, 5000);
document.addEventListener("visibilitychange", tick);
