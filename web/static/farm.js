// What every page has: keys, copy buttons, relative times that stay true.

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

document.addEventListener("click", async (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-copy]") : null;
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    getSelection()?.selectAllChildren(button.previousElementSibling);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

// The same words as web/render.py writes: a page must not change what it says by being awake.
export function ago(seconds) {
  if (seconds < 1) return "now";
  if (seconds < 90) return `${Math.floor(seconds)} s ago`;
  if (seconds < 90 * 60) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 36 * 3600) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} days ago`;
}

function tick() {
  if (document.hidden) return;
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const seconds = (Date.now() - Date.parse(time.dateTime)) / 1000;
    if (seconds >= 31 * 86400) continue;
    const text = ago(Math.max(0, seconds));
    if (time.textContent !== text) time.textContent = text;
  }
}

// Copy buttons do nothing without a script, so only a script shows them.
export function wake(root = document) {
  for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
}

wake();
setInterval(tick, 5000);
document.addEventListener("visibilitychange", tick);
