// Asks for a part of this page again and puts in what changed; rests while nobody looks.

import { wake } from "./copy.js";

const quickest = 1000;

// Fetches the part's HTML and returns its document; null when the server does not answer well.
export async function fetchPart(name, address = location.href) {
  try {
    const response = await fetch(address, { headers: { "Farm-Fragment": name, Accept: "text/html" } });
    if (response.status === 401) location.reload();
    if (!response.ok) return null;
    return new DOMParser().parseFromString(await response.text(), "text/html");
  } catch {
    return null;
  }
}

function selecting(element) {
  const selection = getSelection();
  return selection && !selection.isCollapsed && element.contains(selection.anchorNode);
}

// Puts `fresh` in the place of `old`, keeping the focus; leaves a selection in peace.
export function replace(old, fresh) {
  if (old.isEqualNode(fresh) || selecting(old)) return old;
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const again = focused && keyOf(focused);
  const imported = document.importNode(fresh, true);
  wake(imported);
  old.replaceWith(imported);
  if (again) imported.querySelector(again)?.focus({ preventScroll: true });
  return imported;
}

function keyOf(element) {
  if (element.id) return `#${CSS.escape(element.id)}`;
  const row = element.closest("tr[id]");
  if (row && element.classList.contains("open")) return `#${CSS.escape(row.id)} .open`;
  return null;
}

// Calls `work` now and then, `every()` milliseconds apart, only while the page is seen.
export function whileSeen(work, every) {
  let timer = 0;
  const plan = () => { timer = setTimeout(run, Math.max(quickest, every())); };
  async function run() {
    timer = 0;
    if (document.hidden) return;
    await work();
    if (!timer) plan();
  }
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !timer) run();
  });
  plan();
}
