"use strict";
// Glyphs are looked up when they are needed: Bokeh draws after this script has run.
const glyphs = (wanted) =>
  Bokeh.documents.flatMap((doc) => doc.roots()).flatMap((plot) => plot.renderers ?? [])
    .filter((glyph) => typeof glyph.name === "string" && wanted(glyph.name));

document.addEventListener("click", (event) => {
  const entry = event.target.closest("button[data-glyph]");
  if (entry) {
    const shown = entry.getAttribute("aria-pressed") !== "true";
    entry.setAttribute("aria-pressed", String(shown));
    for (const glyph of glyphs((name) => name === entry.dataset.glyph)) glyph.visible = shown;
  }
  const copy = event.target.closest("button.copy");
  if (copy) {
    const text = copy.parentElement.querySelector("pre");
    const range = document.createRange();
    range.selectNodeContents(text);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    copy.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl-C";
  }
});

document.addEventListener("change", (event) => {
  const list = event.target.closest("select[data-highlight]");
  if (!list) return;
  for (const glyph of glyphs((name) => name.startsWith(list.dataset.highlight))) {
    const source = glyph.data_source;
    const kinds = Array.from(source.data.kind);
    source.data.alpha = kinds.map((kind) => (!list.value || kind === list.value ? 0.85 : 0.05));
    source.change.emit();
  }
});

// What needs the figures waits for them.
const waiting = setInterval(() => {
  if (!globalThis.Bokeh?.documents.length) return;
  clearInterval(waiting);
  // A finger on a figure scrolls the page; the tools of a figure are chosen on purpose.
  if (matchMedia("(pointer: coarse)").matches)
    for (const plot of Bokeh.documents.flatMap((doc) => doc.roots()))
      for (const tool of plot.toolbar?.tools ?? []) if (tool.type === "PanTool") tool.active = false;
  // A press on a point of the map shows its picture below, where there is no pointer to hover.
  const picked = document.getElementById("picked");
  if (!picked) return;
  for (const glyph of glyphs((name) => name.startsWith("map-"))) {
    const { data, selected } = glyph.data_source;
    selected.change.connect(() => {
      const [row] = selected.indices;
      if (row === undefined) return;
      picked.querySelector("img").src = data.picture[row];
      picked.querySelector("b").textContent = data.kind[row];
      picked.querySelector("span").textContent = data.name[row];
      picked.hidden = false;
    });
  }
}, 100);
