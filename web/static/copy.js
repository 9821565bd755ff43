// Buttons that copy the text they carry.

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

// Copy buttons do nothing without a script, so only a script shows them.
export function wake(root = document) {
  for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
}
