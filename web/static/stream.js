// Reads a text/event-stream body, message by message.

export async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const whole = text.split("\n\n");
    text = whole.pop();
    for (const block of whole) {
      const message = parse(block);
      if (message.data) yield message;
    }
  }
}

function parse(block) {
  const message = { event: "message", data: "", id: "" };
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (name === "data") message.data += message.data ? `\n${value}` : value;
    else if (name === "event" || name === "id") message[name] = value;
  }
  return message;
}
