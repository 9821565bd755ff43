// A line of a log as it may be shown; the same rules as web/pages_log.py.

const longest = 4000;
/* eslint-disable no-control-regex */
const sequence = /(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]?/g;
const unseen = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const ofStep = /^#(\d{1,6}) (?:(\d{1,8}\.\d{1,6}) )?([^]*)$/;
const kinds = [["ERROR", "error"], ["CACHED", "cached"], ["DONE", "done"], ["[", "title"]];

const named = (char) => `\u27e8U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}\u27e9`;

export function clean(raw) {
  let shown = raw.replace(sequence, "").replace(/\r+$/, "");
  shown = shown.slice(shown.lastIndexOf("\r") + 1);
  const more = shown.length - longest;
  shown = shown.slice(0, longest).replace(unseen, named);
  return more > 0 ? `${shown} … ${more} more characters in the raw log` : shown;
}

export function parse(raw) {
  const found = ofStep.exec(raw);
  if (!found) return { step: "", at: "", kind: "", text: clean(raw) };
  const text = clean(found[3]);
  const said = kinds.find(([start]) => text.startsWith(start));
  return { step: found[1], at: found[2] ?? "", kind: !found[2] && said ? said[1] : "", text };
}

// The element of a line, made of text nodes only: a log is never markup.
export function lineElement(number, raw) {
  const { step, at, kind, text } = parse(raw);
  const line = document.createElement("div");
  line.className = kind ? `line says-${kind}` : "line";
  line.id = `L${number}`;
  const link = document.createElement("a");
  link.href = `?line=${number}#L${number}`;
  link.textContent = number;
  const mark = document.createElement("i");
  if (at) mark.title = `${at} s into the step`;
  mark.textContent = step ? `#${step}` : "";
  const words = document.createElement("bdi");
  words.textContent = text;
  line.append(link, mark, words);
  return line;
}
