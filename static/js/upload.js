// The new-run form: folders dropped on it are sent at once and become a snapshot; the form then carries its digest.
(() => {
  "use strict";

  const { fill } = Atelier;
  // What no run needs and what makes folders large. The server follows .amlignore and .gitignore besides.
  const SKIP = /(^|\/)(\.git|__pycache__|node_modules|\.ipynb_checkpoints|\.venv|venv|\.mypy_cache|\.pytest_cache)\/|(^|\/)(\.DS_Store|Thumbs\.db)$/;

  const fullest = (files) => {
    const counts = new Map();
    files.forEach(({ path }) => {
      const folder = path.split("/").slice(0, -1).join("/") || ".";
      counts.set(folder, (counts.get(folder) || 0) + 1);
    });
    return [...counts].sort((a, b) => b[1] - a[1]).slice(0, 3).map(([name, count]) => `${name} (${count})`).join(", ");
  };

  class Drop {
    constructor(element) {
      this.element = element;
      this.words = element.dataset;
      this.bar = element.querySelector("[data-progress]");
      this.text = element.querySelector("[data-progress-text]");
      this.request = null;
      element.addEventListener("dragover", (event) => { event.preventDefault(); element.dataset.over = ""; });
      element.addEventListener("dragleave", () => delete element.dataset.over);
      element.addEventListener("drop", (event) => this.dropped(event));
      element.querySelectorAll("input[type=file]").forEach((input) => {
        input.addEventListener("change", () => this.chosen(input));
      });
    }

    async dropped(event) {
      event.preventDefault();
      delete this.element.dataset.over;
      this.say(this.words.tReading);
      let found;
      try {
        found = await Atelier.dropped(event.dataTransfer, (path) => SKIP.test(path));
      } catch {
        return this.fail(this.words.tFailed);
      }
      this.send(found);
    }

    chosen(input) {
      const found = [...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file })).filter(({ path }) => !SKIP.test(path));
      input.value = "";
      this.send(found);
    }

    send(files) {
      if (!files.length) return this.say("");
      const max = Number(this.words.maxFiles);
      if (files.length > max) return this.fail(fill(this.words.tMany, { n: files.length, max, folders: fullest(files) }));
      const data = new FormData();
      data.append("csrfmiddlewaretoken", document.querySelector("#run-form [name=csrfmiddlewaretoken]").value);
      data.append("script", document.querySelector("#script")?.value || "");
      files.forEach(({ path, file }) => {
        data.append("paths", path);
        data.append("files", file, file.name);
      });
      this.request?.abort();
      const request = (this.request = new XMLHttpRequest());
      request.open("POST", this.words.url);
      request.upload.addEventListener("progress", (event) => this.progress(event));
      request.addEventListener("load", () => this.answered(request));
      request.addEventListener("error", () => this.fail(this.words.tFailed));
      this.bar.hidden = false;
      this.bar.value = 0;
      request.send(data);
    }

    progress(event) {
      if (!event.lengthComputable) return;
      const size = (bytes) => (bytes < 1048576 ? `${Math.ceil(bytes / 1024)} KB` : `${(bytes / 1048576).toFixed(1)} MB`);
      this.bar.value = (100 * event.loaded) / event.total;
      const done = event.loaded >= event.total;
      this.say(done ? this.words.tStoring : fill(this.words.tUploading, { done: size(event.loaded), total: size(event.total) }));
    }

    answered(request) {
      this.bar.hidden = true;
      const page = new DOMParser().parseFromString(request.responseText, "text/html");
      const part = page.getElementById("source");
      if (!part) return this.fail(page.querySelector("[data-error-detail]")?.dataset.errorDetail || this.words.tFailed);
      document.getElementById("source").replaceWith(part);
      this.say("");
      hideNoJs(part);
    }

    say(text) { this.text.textContent = text; this.text.classList.remove("invalid-feedback", "d-block"); }

    fail(text) {
      this.bar.hidden = true;
      this.text.textContent = text;
      this.text.classList.add("invalid-feedback", "d-block");
    }
  }

  const hideNoJs = (root) => {
    root.querySelectorAll("[data-nojs]").forEach((element) => (element.matches("[data-row]") ? element.remove() : (element.hidden = true)));
    root.querySelectorAll("[data-js]").forEach((element) => { element.hidden = false; element.disabled = false; });
  };

  // Tab in the code area makes an indentation; Escape first, then Tab, leaves it.
  const codeArea = (area) => {
    let leave = false;
    area.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { leave = true; return; }
      if (event.key === "Tab" && !event.shiftKey && !leave) {
        event.preventDefault();
        area.setRangeText("    ", area.selectionStart, area.selectionEnd, "end");
      }
      leave = false;
    });
  };

  const rows = (box) => {
    const blank = box.querySelector("[data-row]:last-of-type").cloneNode(true);
    blank.querySelectorAll("input").forEach((input) => { input.value = ""; });
    box.addEventListener("click", (event) => {
      if (event.target.closest("[data-add-row]")) {
        const row = blank.cloneNode(true);
        event.target.closest("[data-add-row]").before(row);
        row.querySelector("input").focus();
      }
      const remove = event.target.closest("[data-remove-row]");
      if (!remove) return;
      const row = remove.closest("[data-row]");
      if (box.querySelectorAll("[data-row]").length > 1) row.remove();
      else row.querySelectorAll("input").forEach((input) => { input.value = ""; });
    });
  };

  document.addEventListener("DOMContentLoaded", () => {
    const form = document.getElementById("run-form");
    if (!form) return;
    hideNoJs(form);
    form.querySelectorAll("[data-drop]").forEach((element) => new Drop(element));
    form.querySelectorAll("[data-code]").forEach(codeArea);
    form.querySelectorAll("[data-rows]").forEach(rows);
    form.querySelectorAll("[data-read]").forEach((input) => input.addEventListener("change", async () => {
      if (!input.files.length) return;
      document.querySelector(input.dataset.read).value = await input.files[0].text();
      input.value = "";
    }));
    form.addEventListener("submit", () => { form.querySelector("[data-submit]").disabled = true; });
    window.addEventListener("pageshow", () => { form.querySelector("[data-submit]").disabled = false; });
    (form.querySelector("[data-focus]") || {}).focus?.();
  });
})();
