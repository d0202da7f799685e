// Lists of runs: filters that apply themselves, ticking many runs.
(() => {
  "use strict";

  const filters = (form) => {
    form.querySelectorAll("[data-nojs]").forEach((element) => { element.hidden = true; });
    form.addEventListener("change", (event) => {
      // The column chooser has its own button; a search is sent by Enter.
      if (event.target.matches("select, [type=checkbox]:not([name=columns])")) form.requestSubmit();
    });
    // What is empty does not belong into the address; the empty "columns" says that none was ticked.
    form.addEventListener("submit", () => {
      form.querySelectorAll("input, select").forEach((field) => {
        if (field.name && field.name !== "columns" && !field.value) field.disabled = true;
      });
      const ticked = form.querySelectorAll("[name=columns]:checked");
      const list = form.querySelector("[type=hidden][name=columns]");
      if (!list) return;
      const changed = [...form.querySelectorAll("[type=checkbox][name=columns]")].some((box) => box.checked !== box.defaultChecked);
      const chosen = changed || new URLSearchParams(location.search).has("columns");
      list.value = [...ticked].map((box) => box.value).join(",");
      list.disabled = !chosen;
      form.querySelectorAll("[type=checkbox][name=columns]").forEach((box) => { box.disabled = true; });
    });
    window.addEventListener("pageshow", () => form.querySelectorAll(":disabled").forEach((field) => { field.disabled = false; }));
  };

  const bulk = (form) => {
    const boxes = () => [...form.querySelectorAll("[name=run]")];
    const all = form.querySelector("[data-all]");
    const bar = form.querySelector("[data-bulk-bar]");
    const count = form.querySelector("[data-bulk-count]");
    const draw = () => {
      const ticked = boxes().filter((box) => box.checked).length;
      bar.hidden = ticked === 0;
      count.textContent = count.dataset.t.replace("%(n)s", ticked);
      all.checked = ticked > 0 && ticked === boxes().length;
      all.indeterminate = ticked > 0 && ticked < boxes().length;
    };
    let last = null;
    form.addEventListener("click", (event) => {
      if (event.target.name !== "run") return;
      // Shift ticks everything between two clicks.
      if (event.shiftKey && last && last !== event.target) {
        const list = boxes();
        const [from, to] = [list.indexOf(last), list.indexOf(event.target)].sort((a, b) => a - b);
        list.slice(from, to + 1).forEach((box) => { box.checked = event.target.checked; });
      }
      last = event.target;
    });
    form.addEventListener("change", (event) => {
      if (event.target === all) boxes().forEach((box) => { box.checked = all.checked; });
      draw();
    });
    draw();
    window.addEventListener("pageshow", draw);
  };

  // Parts that ask for themselves wait while somebody answers a question, uses a menu in them or looks elsewhere:
  // a swap would take the form away from under the answer.
  const LIVE = '[hx-trigger^="every"]';
  const held = (element) => document.hidden || document.querySelector("dialog[open]") || element.querySelector(".dropdown-menu.show");
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.matches(LIVE) && held(event.target)) event.preventDefault();
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    const from = event.detail.requestConfig?.elt;
    if (from?.matches(LIVE) && held(from)) event.detail.shouldSwap = false;
  });

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("[data-filters]").forEach(filters);
    document.querySelectorAll("[data-bulk]").forEach(bulk);
  });
  document.addEventListener("click", (event) => event.target.closest("[data-close-dialog]")?.closest("dialog").close());
})();
