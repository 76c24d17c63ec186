// Follows a job's console. The page itself has its end without this file.
"use strict";

// The console: asked for from the byte where the page ended, and held by the server until it grows.
const box = document.getElementById("console");
const follow = document.getElementById("follow");
const MOST_LINES = 5000;
const KINDS = { "##": "agent", "pr": "quiet-line", "pe": "error", "!!": "task", "&2": "error", "?0": "good", "?1": "bad", "^C": "bad", "!x": "task", "x0": "good", "x1": "bad", "j0": "good", "j1": "bad", "ar": "quiet-line", "ae": "error", "ex": "agent" };

function line(text) {
  const row = document.createElement("div");
  row.className = "line";
  const clock = document.createElement("span");
  clock.className = "clock";
  row.append(clock);
  const tagged = /^(..)\|(\d\d:\d\d:\d\d\.\d{3}) ?(.*)$/s.exec(text);
  if (tagged) {
    row.className = "line " + (KINDS[tagged[1]] || "");
    clock.textContent = tagged[2];
    text = tagged[3];
  }
  let style = { bold: false, colour: "" };
  for (const [index, piece] of text.split(/\x1b\[([0-9;]*)m/).entries()) {
    if (index % 2 === 1) {
      for (const code of piece.split(";").map(Number)) {
        if (code === 0) style = { bold: false, colour: "" };
        else if (code === 1) style.bold = true;
        else if (code >= 30 && code <= 37) style.colour = "c" + (code - 30);
        else if (code >= 90 && code <= 97) style.colour = "c" + (code - 90);
        else if (code === 39) style.colour = "";
      }
      continue;
    }
    const clean = piece.replace(/\x1b(\[[0-9;?]*[A-Za-z]?|.)?/g, "").replace(/[\x00-\x08\x0b-\x1f]/g, "");
    if (!clean) continue;
    const span = document.createElement("span");
    span.className = ((style.bold ? "b " : "") + style.colour).trim();
    span.textContent = clean;
    row.append(span);
  }
  return row;
}

async function stream() {
  let offset = Number(box.dataset.offset);
  let rest = "";
  let decoder = new TextDecoder();
  for (;;) {
    try {
      const answer = await fetch(`/go/api/journeyman/consoles/${box.dataset.id}?offset=${offset}&wait=15`);
      if (answer.status === 404) return;
      if (!answer.ok) throw new Error(answer.statusText);
      const text = rest + decoder.decode(await answer.arrayBuffer(), { stream: true });
      const next = Number(answer.headers.get("Journeyman-Console-Length"));
      const state = answer.headers.get("Journeyman-Job-State");
      const over = next === offset && (state === "Completed" || state === "Rescheduled");
      offset = next;
      const lines = text.split("\n");
      rest = over ? "" : lines.pop();
      if (lines.length) {
        const fresh = lines.slice(-MOST_LINES).filter((one, index, all) => one !== "" || index < all.length - 1 || !over);
        box.append(...fresh.map(line));
        while (box.childElementCount > MOST_LINES) box.firstElementChild.remove();
        if (follow.checked) box.scrollTop = box.scrollHeight;
      }
      if (over) return;
    } catch {
      await new Promise((resume) => setTimeout(resume, 2000));
    }
  }
}
if (box) {
  box.scrollTop = box.scrollHeight;
  box.addEventListener("scroll", () => {
    follow.checked = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  });
  stream();
}
