// Keeps the list of builds true: row by row, so that what has not changed does not flicker.

import { fetchPart, replace, whileSeen } from "./refresh.js";

const busy = 3000;
const idle = 15000;
let history = document.getElementById("history");

function active() {
  return history.querySelector("[data-active=yes]") !== null;
}

function update(fresh) {
  const body = history.querySelector("tbody");
  const freshBody = fresh.querySelector("tbody");
  const head = history.querySelector("thead");
  if (!body || !freshBody || !head) {
    history.replaceChildren(...[...fresh.childNodes].map((node) => document.importNode(node, true)));
    return;
  }
  replace(head, fresh.querySelector("thead"));
  history.querySelector("table").dataset.active = fresh.querySelector("table").dataset.active;
  const wanted = [...freshBody.rows];
  const known = new Map([...body.rows].map((row) => [row.id, row]));
  let place = body.firstElementChild;
  for (const row of wanted) {
    const old = known.get(row.id);
    known.delete(row.id);
    if (!old) {
      body.insertBefore(document.importNode(row, true), place);
      continue;
    }
    const kept = replace(old, row);
    place = kept.nextElementSibling;
  }
  for (const gone of known.values()) gone.remove();
}

// An older page changes only where it shows builds that are not over.
if (history) {
  whileSeen(async () => {
    if (history.dataset.live !== "newest" && !active()) return;
    const fresh = await fetchPart("rows");
    if (fresh) update(fresh.body);
  }, () => (active() ? busy : idle));
}
