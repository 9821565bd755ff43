// Keeps the list of workers true.

import { fetchPart, replace, whileSeen } from "./refresh.js";

const every = 5000;
whileSeen(async () => {
  const fresh = await fetchPart("workers");
  const old = document.getElementById("workers");
  const next = fresh?.getElementById("workers");
  if (old && next) replace(old, next);
}, () => every);
