// Files and folders dropped on a datastore's folder go up in pieces through the REST API. A lost connection is waited
// out and the upload goes on where the studio says that it is; nothing appears in the folder before it is whole.
(() => {
  "use strict";

  const PIECE = 8 * 1048576;
  const AT_ONCE = 3;
  const { fill } = Atelier;
  const size = (bytes) => {
    const units = ["B", "KB", "MB", "GB", "TB"];
    let n = bytes, unit = 0;
    while (n >= 1024 && unit < 4) { n /= 1024; unit += 1; }
    return `${n < 10 && unit ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
  };
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const csrf = () => JSON.parse(document.body.getAttribute("hx-headers") || "{}")["X-CSRFToken"] || "";

  class Upload {
    constructor(box, name, file) {
      this.box = box;
      this.words = box.dataset;
      this.name = name;
      this.file = file;
      this.canceled = false;
      const path = (this.words.prefix ? `${this.words.prefix}/` : "") + name;
      this.url = this.words.url + path.split("/").map(encodeURIComponent).join("/");
      this.draw();
    }

    draw() {
      const row = (this.row = document.createElement("li"));
      const label = document.createElement("span");
      label.className = "at-truncate at-grow";
      label.textContent = label.title = this.name;
      this.bar = document.createElement("progress");
      this.bar.className = "at-meter";
      this.bar.max = this.file.size || 1;
      this.bar.value = 0;
      this.bar.setAttribute("aria-label", this.name);
      this.text = document.createElement("span");
      this.text.className = "at-sub";
      this.button = document.createElement("button");
      this.button.type = "button";
      this.button.className = "btn btn-sm btn-ghost";
      this.button.textContent = this.words.tCancel;
      this.button.addEventListener("click", () => (this.ended ? this.again() : this.cancel()));
      row.append(label, this.bar, this.text, this.button);
      this.say(this.words.tWaiting);
    }

    say(text, bad = false) {
      this.text.textContent = text;
      this.text.classList.toggle("at-bad", bad);
    }

    cancel() {
      this.canceled = true;
      this.request?.abort();
      this.end(this.words.tCanceled, true);
    }

    again() {
      this.canceled = this.ended = this.bar.hidden = false;
      this.button.textContent = this.words.tCancel;
      this.box.queue.push(this);
      this.box.work();
    }

    end(text, bad = false) {
      this.ended = true;
      this.say(text, bad);
      this.row.toggleAttribute("data-done", !bad);
      if (bad) this.button.textContent = this.words.tRetry;
      this.button.hidden = !bad;
      this.bar.hidden = !bad;
    }

    send(method, headers, body) {
      return new Promise((resolve) => {
        const request = (this.request = new XMLHttpRequest());
        request.open(method, this.url);
        request.setRequestHeader("X-CSRFToken", csrf());
        Object.entries(headers).forEach(([name, value]) => request.setRequestHeader(name, value));
        request.upload.addEventListener("progress", (event) => this.show(this.offset + event.loaded));
        request.addEventListener("loadend", () => {
          let answer = {};
          try { answer = JSON.parse(request.responseText || "{}"); } catch { answer = {}; }
          resolve({ status: request.status, answer });
        });
        request.send(body);
      });
    }

    show(done) {
      this.bar.value = Math.min(done, this.bar.max);
      const all = done >= this.file.size;
      this.say(all && this.file.size ? this.words.tStoring : fill(this.words.tOf, { done: size(done), total: size(this.file.size) }));
    }

    // Where the studio has it: 0 for a new one.
    async ask() {
      const { status, answer } = await this.send("PUT", { "Content-Range": `bytes */${this.file.size}` }, null);
      return { status, offset: answer.complete ? 0 : answer.offset || 0 };
    }

    async run() {
      this.offset = 0;
      let replace = false;
      let tries = 0;
      const begun = await this.ask();
      if (begun.status === 200) this.offset = begun.offset;
      for (;;) {
        if (this.canceled) return;
        const end = Math.min(this.offset + PIECE, this.file.size);
        const headers = { "Content-Type": "application/octet-stream" };
        if (this.file.size) headers["Content-Range"] = `bytes ${this.offset}-${end - 1}/${this.file.size}`;
        if (!replace) headers["If-None-Match"] = "*";
        let piece;
        try {
          piece = await this.file.slice(this.offset, end).arrayBuffer();
        } catch {
          return this.end(this.words.tRead, true);
        }
        const { status, answer } = await this.send("PUT", headers, piece);
        if (this.canceled) return;
        if (status >= 200 && status < 300) {
          tries = 0;
          if (answer.complete) { this.show(this.file.size); return this.end(this.words.tDone); }
          this.offset = answer.offset;
        } else if (status === 412) {
          const text = fill(this.words.tReplace, { name: this.name });
          replace = await this.box.ask(text);
          if (!replace) return this.end(this.words.tKept);
        } else if (status === 0 || status === 409 || status === 429 || status >= 502) {
          if (status === 409 && tries >= 5) return this.end(answer.detail, true);
          if (status !== 409) this.say(this.words.tPaused);
          await pause(Math.min(15000, 1000 * 2 ** Math.min(4, (tries += 1))));
          const found = await this.ask();
          if (found.status === 200) this.offset = found.offset;
        } else {
          return this.end(answer.detail || answer.title || String(status), true);
        }
      }
    }
  }

  // One list for the page; it is moved along when htmx draws the folder again.
  const setUp = (box) => {
    box.queue = [];
    box.running = 0;
    box.list = box.querySelector("ul");
    let questions = Promise.resolve();
    box.ask = (text) => (questions = questions.then(() => Atelier.ask({ text, title: box.dataset.tReplaceTitle, action: box.dataset.tReplaceAction })));
    box.work = async () => {
      while (box.running < AT_ONCE && box.queue.length) {
        const next = box.queue.shift();
        if (next.canceled) continue;
        box.running += 1;
        next.run().finally(() => {
          box.running -= 1;
          box.work();
          if (!box.running && !box.queue.length) refresh(box);
        });
      }
    };
    box.add = (files) => {
      if (!box.running) box.list.querySelectorAll("[data-done]").forEach((row) => row.remove());
      files.forEach(({ path, file }) => {
        const upload = new Upload(box, path, file);
        box.list.append(upload.row);
        box.queue.push(upload);
      });
      box.list.hidden = !box.list.children.length;
      box.work();
    };
    const card = box.closest(".card");
    card.querySelectorAll("[data-js]").forEach((element) => { element.hidden = false; });
    card.querySelectorAll("[data-upload-files]").forEach((input) => input.addEventListener("change", (event) => {
      box.add([...event.target.files].map((file) => ({ path: file.webkitRelativePath || file.name, file })));
      event.target.value = "";
    }));
    card.addEventListener("dragover", (event) => { event.preventDefault(); card.dataset.over = ""; });
    card.addEventListener("dragleave", (event) => { if (!card.contains(event.relatedTarget)) delete card.dataset.over; });
    card.addEventListener("drop", async (event) => {
      event.preventDefault();
      delete card.dataset.over;
      box.add(await Atelier.dropped(event.dataTransfer));
    });
  };

  // The folder is drawn again with what arrived; what could not be uploaded stays in the list.
  const refresh = async (box) => {
    const card = box.closest(".card");
    const answer = await fetch(card.dataset.refresh, { headers: { "HX-Request": "true" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("folder");
    if (!fresh) return;
    card.querySelectorAll(":scope > :not(.card-header):not([data-uploads])").forEach((part) => part.remove());
    fresh.querySelectorAll(":scope > :not(.card-header):not([data-uploads])").forEach((part) => card.append(document.adoptNode(part)));
    window.htmx?.process(card);
  };

  const start = () => document.querySelectorAll("[data-uploads]").forEach((box) => { if (!box.queue) setUp(box); });
  document.addEventListener("DOMContentLoaded", start);
  document.addEventListener("htmx:afterSettle", start);
  window.addEventListener("beforeunload", (event) => {
    if ([...document.querySelectorAll("[data-uploads]")].some((box) => box.running)) event.preventDefault();
  });
})();
