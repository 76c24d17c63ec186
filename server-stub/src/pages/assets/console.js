// The console of a job: fills chunks of lines when they come into view, and follows what is added.
// Without this file a chunk is a link to the page with its lines.
"use strict";

const box = document.getElementById("console");
const ROW = 17; // The height of a line in pixels, by the style sheet.
const AHEAD = 1200; // Pixels around what is seen that are filled as well.
const MOST_FILLED = 60; // Chunks that stay filled out of view.

if (box) begin();

function begin() {
  const part = box.dataset.part;
  const follow = document.getElementById("follow");
  const near = new Set();
  const filled = new Set();
  let lines = Number(box.dataset.lines);

  const firstOf = (chunk) => Number(chunk.dataset.from);
  const countOf = (chunk) => Number(chunk.dataset.count);
  const rowsOf = (chunk) => chunk.querySelectorAll(":scope > .line").length;

  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) near.add(target);
      else near.delete(target);
    }
    // What only flies past is not loaded.
    setTimeout(() => near.forEach(fill), 60);
    if (filled.size > MOST_FILLED) filled.forEach(empty);
  }, { root: box, rootMargin: `${AHEAD}px 0px` });

  function watch(chunk) {
    if (rowsOf(chunk) > 0) filled.add(chunk);
    else chunk.style.height = `${countOf(chunk) * ROW}px`;
    watcher.observe(chunk);
  }

  async function fill(chunk) {
    const have = rowsOf(chunk);
    const wanted = countOf(chunk);
    if (have >= wanted || chunk.loading) return;
    chunk.loading = true;
    try {
      const answer = await fetch(`${part}?from=${firstOf(chunk) + have}&count=${wanted - have}`);
      if (answer.ok) {
        const rows = document.createRange().createContextualFragment(await answer.text());
        if (have === 0) chunk.replaceChildren(rows);
        else chunk.append(rows);
        chunk.style.height = "";
        filled.add(chunk);
      }
    } catch { /* The server is away: it is tried again when something moves. */ }
    chunk.loading = false;
    if (rowsOf(chunk) < countOf(chunk) && near.has(chunk)) setTimeout(fill, 500, chunk);
    if (follow.checked) toEnd();
  }

  function empty(chunk) {
    if (near.has(chunk) || chunk.contains(document.activeElement) || !getSelection().isCollapsed) return;
    chunk.style.height = `${chunk.offsetHeight || countOf(chunk) * ROW}px`;
    chunk.replaceChildren();
    filled.delete(chunk);
  }

  // Puts what is new of the outline into what is there: sections and chunks keep their names.
  function merge(to, fresh) {
    for (const item of [...fresh.children]) {
      const known = item.id && document.getElementById(item.id);
      if (!known) {
        to.append(item);
        item.querySelectorAll(".chunk").forEach(watch);
        if (item.matches(".chunk")) watch(item);
      } else if (item.matches(".fold")) {
        known.querySelector("summary").replaceWith(item.querySelector("summary"));
        if (!item.open && !known.querySelector(".here, :target")) known.open = item.open;
        merge(known, item);
      } else if (item.matches(".chunk") && countOf(known) !== countOf(item)) {
        known.dataset.count = item.dataset.count;
        if (rowsOf(known) === 0) known.style.height = `${countOf(known) * ROW}px`;
        if (near.has(known)) fill(known);
      }
    }
  }

  let own = 0; // Until when a scroll is ours.
  function toEnd() {
    own = performance.now() + 150;
    box.scrollTop = box.scrollHeight;
  }

  // --- lines that are linked to

  function chunkOf(line) {
    for (const chunk of box.querySelectorAll(".chunk")) {
      if (line > firstOf(chunk) && line <= firstOf(chunk) + countOf(chunk)) return chunk;
    }
    return null;
  }

  async function show(line) {
    follow.checked = false;
    const chunk = chunkOf(line);
    const fold = (chunk || document.getElementById(`L${line}`))?.closest(".fold");
    if (fold) fold.open = true;
    if (chunk && rowsOf(chunk) === 0) {
      centre(chunk);
      await fill(chunk);
    }
    const row = document.getElementById(`L${line}`);
    if (!row) {
      if (line <= lines) location.search = `?line=${line}`;
      return;
    }
    box.querySelectorAll(".here").forEach((one) => one.classList.remove("here"));
    row.classList.add("here");
    centre(row);
  }

  // Scrolls the console, not the page around it.
  function centre(element) {
    const at = element.getBoundingClientRect().top - box.getBoundingClientRect().top;
    box.scrollTop += at - box.clientHeight / 2;
  }

  function showHash() {
    const line = /^#L(\d+)$/.exec(location.hash);
    if (line) {
      box.scrollIntoView({ block: "nearest" });
      show(Number(line[1]));
    }
    return Boolean(line);
  }

  box.addEventListener("click", (event) => {
    const link = event.target.closest("a.n, a.more");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (link.hash === location.hash) showHash();
    else location.hash = link.hash;
  });
  addEventListener("hashchange", showHash);
  document.getElementById("to-start").addEventListener("click", () => { follow.checked = false; });
  document.getElementById("to-end").addEventListener("click", (event) => {
    event.preventDefault();
    toEnd();
  });
  follow.addEventListener("change", () => follow.checked && toEnd());
  box.addEventListener("scroll", () => {
    if (performance.now() < own) return;
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 2 * ROW;
    if (!atEnd) follow.checked = false;
    else if (box.hasAttribute("data-active")) follow.checked = true;
  });

  // --- growth

  async function grow() {
    for (;;) {
      try {
        const answer = await fetch(`${part}?since=${lines}&base=${box.dataset.base}&wait=15`);
        if (answer.status === 404 || answer.redirected) return;
        if (!answer.ok) throw new Error(answer.statusText);
        const fresh = document.createRange().createContextualFragment(await answer.text());
        lines = Number(answer.headers.get("Journeyman-Console-Lines"));
        if (lines - Number(box.dataset.base) > 1500000) return location.reload();
        merge(box, fresh);
        document.getElementById("console-lines").textContent = lines;
        if (follow.checked) toEnd();
        if (answer.headers.get("Journeyman-Job-Over") === "true") {
          box.removeAttribute("data-active");
          return;
        }
        await new Promise((resume) => setTimeout(resume, 300));
      } catch {
        await new Promise((resume) => setTimeout(resume, 2000));
      }
    }
  }

  box.querySelectorAll(".chunk").forEach(watch);
  if (!showHash()) {
    if (follow.checked) toEnd();
    else if (box.dataset.focus) show(Number(box.dataset.focus)).then(() => box.querySelector(".here")?.classList.remove("here"));
  }
  if (box.hasAttribute("data-active")) grow();
}
