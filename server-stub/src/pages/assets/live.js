// Keeps a page up to date. Everything on it works without this file.
"use strict";

// The parts marked data-live are fetched again and what differs is put in place, so that focus, open
// menus and what was typed stay. A page that answers a form is not where its address says: data-page is.
const EVERY = 2000;
const first = document.querySelector("main [data-live]");
const page = first && (first.dataset.page || location.pathname + location.search);
let tag = "";

async function refresh() {
  try {
    if (document.visibilityState === "visible") {
      const answer = await fetch(page, { headers: tag ? { "If-None-Match": tag } : {} });
      if (answer.redirected) return location.reload();
      if (answer.ok) {
        tag = answer.headers.get("ETag") || "";
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of document.querySelectorAll("[data-live]")) {
          const other = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
          if (other) morph(part, other);
        }
      }
    }
  } catch { /* The server is away: try again. */ }
  if (!document.querySelector('[data-live="job"]:not([data-active])')) setTimeout(refresh, EVERY);
}

const key = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("id") : null);

// Makes one node like another of the same kind.
function morph(node, like) {
  if (node.nodeType !== Node.ELEMENT_NODE) {
    if (node.data !== like.data) node.data = like.data;
    return;
  }
  for (const { name, value } of like.attributes) if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  for (const { name } of [...node.attributes]) {
    if (!like.hasAttribute(name) && !(name === "open" && node.nodeName === "DETAILS")) node.removeAttribute(name);
  }
  let at = node.firstChild;
  for (const child of [...like.childNodes]) {
    const id = key(child);
    if (id !== null) {
      let same = at;
      while (same && key(same) !== id) same = same.nextSibling;
      if (same) while (at !== same) at = drop(at);
    }
    if (at && at.nodeName === child.nodeName && key(at) === id) {
      morph(at, child);
      at = at.nextSibling;
    } else node.insertBefore(document.adoptNode(child), at);
  }
  while (at) at = drop(at);
}

function drop(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

if (first) setTimeout(refresh, EVERY);

// A box that ticks all others of its form.
document.documentElement.classList.add("js");
document.addEventListener("change", ({ target }) => {
  if (target.dataset.ticks) for (const one of document.getElementsByName(target.dataset.ticks)) one.checked = target.checked;
});
